# The whole of what each role may do, statement by statement. A change of
# main.tf that gives or takes a permission must be made here as well, on purpose.

mock_provider "aws" {}

variables {
  context                    = { partition = "aws", region = "eu-west-1", account_id = "123456789012" }
  name                       = "bt"
  bucket_arn                 = "arn:aws:s3:::bucket"
  queue_arns                 = { small = "arn:aws:sqs:eu-west-1:123456789012:small", large = "arn:aws:sqs:eu-west-1:123456789012:large" }
  dead_letter_arns           = { small = "arn:aws:sqs:eu-west-1:123456789012:small-dead", large = "arn:aws:sqs:eu-west-1:123456789012:large-dead" }
  function_names             = { plan = "plan", settle = "settle", alarms = "alarms", consumer = "consumer" }
  failures_queue_arn         = "arn:aws:sqs:eu-west-1:123456789012:failures"
  scheduler_dead_letters_arn = "arn:aws:sqs:eu-west-1:123456789012:scheduler-dead"
  schedule_group_name        = "group"
  ecs                        = { cluster_name = "cluster", service_name = "service", log_group_name = "/ecs/service" }
  image_repository_arns      = ["arn:aws:ecr:eu-west-1:123456789012:repository/bottles"]
  enable_slack               = true
  slack_secret_arn           = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:slack-AbCdEf"
  enable_topic               = true
  topic_arn                  = "arn:aws:sns:eu-west-1:123456789012:topic"
  bucket_kms_key_arn         = "arn:aws:kms:eu-west-1:123456789012:key/bucket"
  queues_kms_key_arn         = "arn:aws:kms:eu-west-1:123456789012:key/queues"
  notifications_kms_key_arn  = "arn:aws:kms:eu-west-1:123456789012:key/notifications"
}

run "the_producer" {
  command = plan

  assert {
    condition = { for statement in jsondecode(aws_iam_role_policy.this["producer"].policy).Statement : statement.Sid => "${join(" ", statement.Action)} on ${join(" ", statement.Resource)}" } == {
      WriteLogs               = "logs:CreateLogStream logs:PutLogEvents on arn:aws:logs:eu-west-1:123456789012:log-group:/aws/lambda/plan:* arn:aws:logs:eu-west-1:123456789012:log-group:/aws/lambda/settle:*"
      ListBucket              = "s3:ListBucket on arn:aws:s3:::bucket"
      ReadTheMirror           = "s3:GetObject on arn:aws:s3:::bucket/_sync/* arn:aws:s3:::bucket/v2/*"
      WriteStateAndIndexes    = "s3:PutObject on arn:aws:s3:::bucket/_sync/* arn:aws:s3:::bucket/v2/*/manifests/*"
      PublishApiFiles         = "s3:PutObject on arn:aws:s3:::bucket/api/*"
      Retire                  = "s3:PutObject s3:PutObjectTagging on arn:aws:s3:::bucket/v2/*/blobs/*"
      RemoveState             = "s3:DeleteObject on arn:aws:s3:::bucket/_sync/*"
      Queue                   = "sqs:GetQueueAttributes sqs:SendMessage on arn:aws:sqs:eu-west-1:123456789012:large arn:aws:sqs:eu-west-1:123456789012:small"
      AskForTasks             = "ecs:DescribeServices ecs:UpdateService on arn:aws:ecs:eu-west-1:123456789012:service/cluster/service"
      ReportFailedInvocations = "sqs:SendMessage on arn:aws:sqs:eu-west-1:123456789012:failures"
      ReadSlacksWebhook       = "secretsmanager:GetSecretValue on arn:aws:secretsmanager:eu-west-1:123456789012:secret:slack-AbCdEf"
      DecryptSlacksWebhook    = "kms:Decrypt on arn:aws:kms:eu-west-1:123456789012:key/notifications"
      PublishNotices          = "sns:Publish on arn:aws:sns:eu-west-1:123456789012:topic"
      EncryptNotices          = "kms:Decrypt kms:GenerateDataKey on arn:aws:kms:eu-west-1:123456789012:key/notifications"
      UseTheBucketsKey        = "kms:Decrypt kms:GenerateDataKey on arn:aws:kms:eu-west-1:123456789012:key/bucket"
      UseTheQueuesKey         = "kms:Decrypt kms:GenerateDataKey on arn:aws:kms:eu-west-1:123456789012:key/queues"
    }
    error_message = "the producer's role may do something else than it should"
  }
}

run "the_producer_with_flat_names" {
  command = plan

  variables {
    enable_flat_names = true
  }

  assert {
    condition = { for statement in jsondecode(aws_iam_role_policy.this["producer"].policy).Statement : statement.Sid => "${join(" ", statement.Action)} on ${join(" ", statement.Resource)}" if anytrue([for action in statement.Action : startswith(action, "s3:")]) } == {
      ListBucket              = "s3:ListBucket on arn:aws:s3:::bucket"
      ReadTheMirror           = "s3:GetObject on arn:aws:s3:::bucket/_sync/* arn:aws:s3:::bucket/v2/*"
      WriteStateAndIndexes    = "s3:PutObject on arn:aws:s3:::bucket/_sync/* arn:aws:s3:::bucket/v2/*/manifests/*"
      PublishApiFiles         = "s3:PutObject on arn:aws:s3:::bucket/api/*"
      Retire                  = "s3:PutObject s3:PutObjectTagging on arn:aws:s3:::bucket/v2/*/blobs/*"
      NameAndRetireFlatCopies = "s3:GetObject s3:PutObject s3:PutObjectTagging on arn:aws:s3:::bucket/*.bottle.*tar.gz"
      CopyIndexesBesideThem   = "s3:GetObject s3:PutObject on arn:aws:s3:::bucket/*/manifests/*"
      RemoveState             = "s3:DeleteObject on arn:aws:s3:::bucket/_sync/*"
    }
    error_message = "the producer's role may do something else in the bucket than it should"
  }

  # Settle makes the copies, and nobody else.
  assert {
    condition = alltrue(flatten([
      for role, policy in aws_iam_role_policy.this : [
        for statement in jsondecode(policy.policy).Statement : !strcontains(join(" ", statement.Resource), ".bottle.")
      ] if role != "producer"
    ]))
    error_message = "another role than the producer's may write flat names"
  }

  # The names that the program has, and none of its own records.
  assert {
    condition = { for key in [
      "wget-1.25.0.arm64_tahoe.bottle.tar.gz", "wget-1.25.0.arm64_tahoe.bottle.2.tar.gz",
      "taps/bottles.example.com/tools/x-1.all.bottle.1.tar.gz", "_sync/manifest.jsonl.zst", "_sync/selection.toml", "api/formula.json",
      ] : key => can(regex("^${replace(replace(trimprefix(local.flat_bottles[0], "arn:aws:s3:::bucket/"), ".", "[.]"), "*", ".*")}$", key)) } == {
      "wget-1.25.0.arm64_tahoe.bottle.tar.gz"                  = true
      "wget-1.25.0.arm64_tahoe.bottle.2.tar.gz"                = true
      "taps/bottles.example.com/tools/x-1.all.bottle.1.tar.gz" = true
      "_sync/manifest.jsonl.zst"                               = false
      "_sync/selection.toml"                                   = false
      "api/formula.json"                                       = false
    }
    error_message = "the pattern of flat names fits other keys than those"
  }
}

run "the_alarms_function" {
  command = plan

  assert {
    condition = { for statement in jsondecode(aws_iam_role_policy.this["alarms"].policy).Statement : statement.Sid => "${join(" ", statement.Action)} on ${join(" ", statement.Resource)}" } == {
      WriteLogs               = "logs:CreateLogStream logs:PutLogEvents on arn:aws:logs:eu-west-1:123456789012:log-group:/aws/lambda/alarms:*"
      ReportFailedInvocations = "sqs:SendMessage on arn:aws:sqs:eu-west-1:123456789012:failures"
      ReadSlacksWebhook       = "secretsmanager:GetSecretValue on arn:aws:secretsmanager:eu-west-1:123456789012:secret:slack-AbCdEf"
      DecryptSlacksWebhook    = "kms:Decrypt on arn:aws:kms:eu-west-1:123456789012:key/notifications"
      UseTheQueuesKey         = "kms:Decrypt kms:GenerateDataKey on arn:aws:kms:eu-west-1:123456789012:key/queues"
    }
    error_message = "the alarms' role may do something else than it should"
  }
}

run "the_consumer_function" {
  command = plan

  assert {
    condition = { for statement in jsondecode(aws_iam_role_policy.this["consumer"].policy).Statement : statement.Sid => "${join(" ", statement.Action)} on ${join(" ", statement.Resource)}" } == {
      WriteLogs        = "logs:CreateLogStream logs:PutLogEvents on arn:aws:logs:eu-west-1:123456789012:log-group:/aws/lambda/consumer:*"
      ListBucket       = "s3:ListBucket on arn:aws:s3:::bucket"
      ReadBottles      = "s3:GetObject on arn:aws:s3:::bucket/v2/*"
      WriteBottles     = "s3:AbortMultipartUpload s3:PutObject on arn:aws:s3:::bucket/v2/*/blobs/*"
      WriteReceipts    = "s3:PutObject on arn:aws:s3:::bucket/_sync/receipts/*"
      Consume          = "sqs:ChangeMessageVisibility sqs:DeleteMessage sqs:GetQueueAttributes sqs:ReceiveMessage on arn:aws:sqs:eu-west-1:123456789012:small"
      DeadLetter       = "sqs:SendMessage on arn:aws:sqs:eu-west-1:123456789012:small-dead"
      UseTheBucketsKey = "kms:Decrypt kms:GenerateDataKey on arn:aws:kms:eu-west-1:123456789012:key/bucket"
      UseTheQueuesKey  = "kms:Decrypt kms:GenerateDataKey on arn:aws:kms:eu-west-1:123456789012:key/queues"
    }
    error_message = "the consumer function's role may do something else than it should"
  }
}

run "the_task" {
  command = plan

  assert {
    condition = { for statement in jsondecode(aws_iam_role_policy.this["task"].policy).Statement : statement.Sid => "${join(" ", statement.Action)} on ${join(" ", statement.Resource)}" } == {
      ListBucket       = "s3:ListBucket on arn:aws:s3:::bucket"
      ReadBottles      = "s3:GetObject on arn:aws:s3:::bucket/v2/*"
      WriteBottles     = "s3:AbortMultipartUpload s3:PutObject on arn:aws:s3:::bucket/v2/*/blobs/*"
      WriteReceipts    = "s3:PutObject on arn:aws:s3:::bucket/_sync/receipts/*"
      Consume          = "sqs:ChangeMessageVisibility sqs:DeleteMessage sqs:GetQueueAttributes sqs:ReceiveMessage on arn:aws:sqs:eu-west-1:123456789012:large"
      DeadLetter       = "sqs:SendMessage on arn:aws:sqs:eu-west-1:123456789012:large-dead"
      ProtectItself    = "ecs:UpdateTaskProtection on arn:aws:ecs:eu-west-1:123456789012:task/cluster/*"
      UseTheBucketsKey = "kms:Decrypt kms:GenerateDataKey on arn:aws:kms:eu-west-1:123456789012:key/bucket"
      UseTheQueuesKey  = "kms:Decrypt kms:GenerateDataKey on arn:aws:kms:eu-west-1:123456789012:key/queues"
    }
    error_message = "the task's role may do something else than it should"
  }
}

run "the_tasks_execution" {
  command = plan

  assert {
    condition = { for statement in jsondecode(aws_iam_role_policy.this["task-execution"].policy).Statement : statement.Sid => "${join(" ", statement.Action)} on ${join(" ", statement.Resource)}" } == {
      WriteLogs          = "logs:CreateLogStream logs:PutLogEvents on arn:aws:logs:eu-west-1:123456789012:log-group:/ecs/service:*"
      LogInToTheRegistry = "ecr:GetAuthorizationToken on *"
      PullTheImage       = "ecr:BatchCheckLayerAvailability ecr:BatchGetImage ecr:GetDownloadUrlForLayer on arn:aws:ecr:eu-west-1:123456789012:repository/bottles"
    }
    error_message = "the execution's role may do something else than it should"
  }
}

run "the_scheduler" {
  command = plan

  assert {
    condition = { for statement in jsondecode(aws_iam_role_policy.this["scheduler"].policy).Statement : statement.Sid => "${join(" ", statement.Action)} on ${join(" ", statement.Resource)}" } == {
      Invoke          = "lambda:InvokeFunction on arn:aws:lambda:eu-west-1:123456789012:function:plan arn:aws:lambda:eu-west-1:123456789012:function:settle"
      DeadLetter      = "sqs:SendMessage on arn:aws:sqs:eu-west-1:123456789012:scheduler-dead"
      UseTheQueuesKey = "kms:Decrypt kms:GenerateDataKey on arn:aws:kms:eu-west-1:123456789012:key/queues"
    }
    error_message = "the scheduler's role may do something else than it should"
  }
}

run "nothing_is_wide_open" {
  command = plan

  # With all that can be allowed.
  variables {
    enable_flat_names = true
  }

  assert {
    condition     = toset(keys(aws_iam_role.this)) == toset(["producer", "consumer", "alarms", "task", "task-execution", "scheduler"])
    error_message = "there is a role that no test looks at"
  }

  assert {
    condition = alltrue(flatten([
      for role, policy in aws_iam_role_policy.this : [
        for statement in jsondecode(policy.policy).Statement : [
          for action in statement.Action : !strcontains(action, "*") && statement.Effect == "Allow"
        ]
      ]
    ]))
    error_message = "a statement has an action with * in it, or is no plain Allow"
  }

  assert {
    condition = flatten([
      for role, policy in aws_iam_role_policy.this : [
        for statement in jsondecode(policy.policy).Statement : statement.Action if contains(statement.Resource, "*")
      ]
    ]) == ["ecr:GetAuthorizationToken"]
    error_message = "a statement is about all resources, and AWS knows better"
  }

  assert {
    condition = alltrue(flatten([
      for role, policy in aws_iam_role_policy.this : [
        for statement in jsondecode(policy.policy).Statement : [
          for resource in statement.Resource : startswith(resource, "arn:aws:s3:::bucket/_sync/")
        ]
        if anytrue([for action in statement.Action : startswith(action, "s3:Delete")])
      ]
    ]))
    error_message = "somebody may delete what clients read"
  }
}

run "a_role_is_for_its_service_alone" {
  command = plan

  assert {
    condition = { for name, role in aws_iam_role.this : name => jsondecode(role.assume_role_policy).Statement[0].Principal.Service } == {
      producer       = "lambda.amazonaws.com"
      consumer       = "lambda.amazonaws.com"
      alarms         = "lambda.amazonaws.com"
      task           = "ecs-tasks.amazonaws.com"
      task-execution = "ecs-tasks.amazonaws.com"
      scheduler      = "scheduler.amazonaws.com"
    }
    error_message = "a role can be taken by somebody else"
  }

  assert {
    condition     = jsondecode(aws_iam_role.this["scheduler"].assume_role_policy).Statement[0].Condition.StringEquals["aws:SourceArn"] == "arn:aws:scheduler:eu-west-1:123456789012:schedule-group/group"
    error_message = "schedules of others may take the scheduler's role"
  }

  assert {
    condition     = alltrue([for name in ["task", "task-execution"] : jsondecode(aws_iam_role.this[name].assume_role_policy).Statement[0].Condition.StringEquals["aws:SourceAccount"] == "123456789012"])
    error_message = "tasks of other accounts may take the tasks' roles"
  }
}

run "what_is_not_used_is_not_allowed" {
  command = plan

  variables {
    function_names        = { plan = "plan", settle = "settle", consumer = "consumer" }
    enable_slack          = false
    enable_topic          = false
    image_repository_arns = []
    bucket_kms_key_arn    = ""
    queues_kms_key_arn    = ""
  }

  assert {
    condition     = !contains(keys(aws_iam_role.this), "alarms")
    error_message = "there is a role for a function that there isn't"
  }

  assert {
    condition = !anytrue(flatten([
      for role, policy in aws_iam_role_policy.this : [
        for statement in jsondecode(policy.policy).Statement : [
          for action in statement.Action : can(regex("^(kms|sns|secretsmanager|ecr):", action))
        ]
      ]
    ]))
    error_message = "keys, topics, secrets or registries are allowed to a system that has none"
  }
}

run "wildcards_are_no_names" {
  command = plan

  variables {
    bucket_arn            = "arn:aws:s3:::*"
    queue_arns            = { small = "arn:aws:sqs:eu-west-1:123456789012:*", large = "*" }
    image_repository_arns = ["*"]
  }

  expect_failures = [var.bucket_arn, var.queue_arns, var.image_repository_arns]
}
