mock_provider "aws" {
  mock_resource "aws_ecr_repository" {
    defaults = {
      arn            = "arn:aws:ecr:eu-west-1:123456789012:repository/bottles-test-consumer-ecs"
      repository_url = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/bottles-test-consumer-ecs"
    }
  }
  mock_resource "aws_ecs_cluster" {
    defaults = { arn = "arn:aws:ecs:eu-west-1:123456789012:cluster/bottles-test" }
  }
  mock_resource "aws_ecs_task_definition" {
    defaults = { arn = "arn:aws:ecs:eu-west-1:123456789012:task-definition/bottles-test-consumer:1" }
  }
  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:eu-west-1:123456789012:log-group:/aws/events/bottles-test-stopped-tasks" }
  }
}

variables {
  name               = "bottles-test"
  context            = { partition = "aws", region = "eu-west-1", account_id = "123456789012" }
  environment        = { BOTTLES_TO = "s3://bucket", BOTTLES_STOP_TIMEOUT = "110s" }
  task_role_arn      = "arn:aws:iam::123456789012:role/task"
  execution_role_arn = "arn:aws:iam::123456789012:role/execution"
  subnet_ids         = ["subnet-1", "subnet-2"]
  security_group_ids = ["sg-1"]
  assign_public_ip   = false
}

run "the_service_begins_with_no_task" {
  command = plan

  assert {
    condition     = aws_ecs_service.this.desired_count == 0
    error_message = "tasks run before there is work"
  }

  assert {
    condition     = one(aws_ecs_service.this.deployment_circuit_breaker).enable && one(aws_ecs_service.this.deployment_circuit_breaker).rollback
    error_message = "a broken image is not taken back"
  }
}

run "what_runs_is_what_was_asked_for" {
  command = apply

  variables {
    container_image = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/bottles-test-consumer-ecs:0123456789ab"
  }

  assert {
    condition     = jsondecode(aws_ecs_task_definition.this.container_definitions)[0].image == "123456789012.dkr.ecr.eu-west-1.amazonaws.com/bottles-test-consumer-ecs:0123456789ab"
    error_message = "another image runs"
  }

  assert {
    condition     = { for pair in jsondecode(aws_ecs_task_definition.this.container_definitions)[0].environment : pair.name => pair.value }["BOTTLES_TO"] == "s3://bucket"
    error_message = "the program is not told its bucket"
  }

  assert {
    condition     = jsondecode(aws_ecs_task_definition.this.container_definitions)[0].healthCheck.command == ["CMD", "/consumer-ecs", "health"]
    error_message = "nobody notices a worker that hangs"
  }

  assert {
    condition     = jsondecode(aws_ecs_task_definition.this.container_definitions)[0].stopTimeout > 110
    error_message = "the container is killed before it has given its bottles back"
  }

  assert {
    condition     = jsondecode(aws_ecs_task_definition.this.container_definitions)[0].readonlyRootFilesystem
    error_message = "the container's files can be changed"
  }

  assert {
    condition     = jsondecode(aws_ecs_task_definition.this.container_definitions)[0].logConfiguration.options["awslogs-group"] == aws_cloudwatch_log_group.this.name
    error_message = "logs go elsewhere"
  }
}

run "spot_by_its_weight" {
  command = plan

  variables {
    fargate_weight      = 1
    fargate_spot_weight = 3
  }

  assert {
    condition     = { for strategy in aws_ecs_service.this.capacity_provider_strategy : strategy.capacity_provider => strategy.weight } == { FARGATE = 1, FARGATE_SPOT = 3 }
    error_message = "tasks are spread by other weights"
  }
}

run "without_spot" {
  command = plan

  variables {
    enable_spot = false
  }

  assert {
    condition     = [for strategy in aws_ecs_service.this.capacity_provider_strategy : strategy.capacity_provider] == ["FARGATE"]
    error_message = "tasks run on Spot although it is off"
  }

  assert {
    condition     = aws_ecs_cluster_capacity_providers.this.capacity_providers == toset(["FARGATE"])
    error_message = "the cluster offers Spot although it is off"
  }
}

run "disk_beyond_what_every_task_has" {
  command = plan

  variables {
    ephemeral_storage_size_gb = 50
  }

  assert {
    condition     = one(aws_ecs_task_definition.this.ephemeral_storage).size_in_gib == 50
    error_message = "the disk is not as large as was asked for"
  }
}

run "no_disk_is_paid_for_by_default" {
  command = plan

  assert {
    condition     = length(aws_ecs_task_definition.this.ephemeral_storage) == 0
    error_message = "20 GB come with every task, and Fargate refuses to be asked for them"
  }
}

run "images_are_immutable_and_scanned" {
  command = plan

  assert {
    condition     = aws_ecr_repository.this.image_tag_mutability == "IMMUTABLE" && one(aws_ecr_repository.this.image_scanning_configuration).scan_on_push
    error_message = "a tag can be moved, or images are not scanned"
  }
}

run "tasks_that_stop_abnormally_are_counted_and_told_why" {
  command = apply

  assert {
    condition = jsondecode(aws_cloudwatch_event_rule.stopped_tasks.event_pattern).detail["$or"] == [
      { stopCode = ["EssentialContainerExited", "TaskFailedToStart"] },
      { stoppedReason = [{ prefix = "Task failed" }] },
    ]
    error_message = "scaling in or Spot's interruptions count as abnormal, or failures don't"
  }

  assert {
    condition     = jsondecode(aws_cloudwatch_event_rule.stopped_tasks.event_pattern).detail.clusterArn == ["arn:aws:ecs:eu-west-1:123456789012:cluster/bottles-test"]
    error_message = "tasks of other clusters are counted"
  }

  assert {
    condition = alltrue([
      for statement in jsondecode(aws_cloudwatch_log_resource_policy.stopped_tasks.policy_document).Statement :
      statement.Resource == "arn:aws:logs:eu-west-1:123456789012:log-group:/aws/events/bottles-test-stopped-tasks:*" && statement.Action == ["logs:CreateLogStream", "logs:PutLogEvents"]
    ])
    error_message = "events may be written to other log groups"
  }
}

run "fargate_knows_no_such_size" {
  command = plan

  variables {
    task_cpu    = 1024
    task_memory = 16384
  }

  expect_failures = [var.task_memory]
}

run "nothing_could_run" {
  command = plan

  variables {
    enable_spot    = false
    fargate_weight = 0
  }

  expect_failures = [var.fargate_weight]
}

run "a_variable_that_the_program_does_not_know" {
  command = plan

  variables {
    environment = { BOTTLES_SMALL_QUEUE = "https://sqs" }
  }

  expect_failures = [var.environment]
}

run "an_image_without_a_tag" {
  command = plan

  variables {
    container_image = "bottles"
  }

  expect_failures = [var.container_image]
}
