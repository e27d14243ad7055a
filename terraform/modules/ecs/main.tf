locals {
  service_name   = "${var.name}-consumer"
  cluster_name   = var.name
  log_group_name = "/ecs/${var.name}-consumer"
  image          = var.container_image == "" ? "${aws_ecr_repository.this.repository_url}:latest" : var.container_image
  cluster_arn    = "arn:${var.context.partition}:ecs:${var.context.region}:${var.context.account_id}:cluster/${local.cluster_name}"
}

resource "aws_ecr_repository" "this" {
  #checkov:skip=CKV_AWS_136:The image holds no secret: it is built from this repository's source.
  name                 = "${var.name}-consumer-ecs"
  image_tag_mutability = "IMMUTABLE"
  force_delete         = var.force_delete_repository

  image_scanning_configuration {
    scan_on_push = true
  }
}

resource "aws_ecr_lifecycle_policy" "this" {
  repository = aws_ecr_repository.this.name

  policy = jsonencode({
    rules = [
      {
        rulePriority = 1
        description  = "What lost its tag is never run"
        selection    = { tagStatus = "untagged", countType = "sinceImagePushed", countUnit = "days", countNumber = 7 }
        action       = { type = "expire" }
      },
      {
        rulePriority = 2
        description  = "As many as anybody rolls back to"
        selection    = { tagStatus = "any", countType = "imageCountMoreThan", countNumber = 20 }
        action       = { type = "expire" }
      },
    ]
  })
}

resource "aws_cloudwatch_log_group" "this" {
  #checkov:skip=CKV_AWS_158:Logs hold no secrets (docs/logging.md), and CloudWatch encrypts them with its own keys.
  #checkov:skip=CKV_AWS_338:How long logs are kept is the user's choice (log_retention_days).
  name              = local.log_group_name
  retention_in_days = var.log_retention_days
}

resource "aws_ecs_cluster" "this" {
  #checkov:skip=CKV_AWS_65:Container Insights is the user's choice (enable_container_insights), on by default: it costs.
  name = local.cluster_name

  setting {
    name  = "containerInsights"
    value = var.enable_container_insights ? "enabled" : "disabled"
  }
}

resource "aws_ecs_cluster_capacity_providers" "this" {
  cluster_name       = aws_ecs_cluster.this.name
  capacity_providers = var.enable_spot ? ["FARGATE", "FARGATE_SPOT"] : ["FARGATE"]
}

resource "aws_ecs_task_definition" "this" {
  family                   = local.service_name
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.task_cpu
  memory                   = var.task_memory
  task_role_arn            = var.task_role_arn
  execution_role_arn       = var.execution_role_arn

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.cpu_architecture
  }

  # 20 GB come with every task, and can't be asked for.
  dynamic "ephemeral_storage" {
    for_each = var.ephemeral_storage_size_gb > 20 ? [var.ephemeral_storage_size_gb] : []

    content {
      size_in_gib = ephemeral_storage.value
    }
  }

  container_definitions = jsonencode([{
    name        = "consumer-ecs"
    image       = local.image
    essential   = true
    stopTimeout = var.stop_timeout_seconds

    # It writes nothing but the file that its health check looks at, into memory.
    readonlyRootFilesystem = true
    environment = [
      for name, value in merge(var.environment, { BOTTLES_HEALTH_FILE = "/dev/shm/healthy" }) : { name = name, value = value }
    ]
    # ECS does not look at the image's own.
    healthCheck = {
      command     = ["CMD", "/consumer-ecs", "health"]
      interval    = 30
      timeout     = 5
      retries     = 3
      startPeriod = 60
    }

    logConfiguration = {
      logDriver = "awslogs"
      options = {
        "awslogs-group"         = aws_cloudwatch_log_group.this.name
        "awslogs-region"        = var.context.region
        "awslogs-stream-prefix" = "task"
        # A log service that is slow does not hold up bottles.
        "mode"            = "non-blocking"
        "max-buffer-size" = "25m"
      }
    }
  }])
}

resource "aws_ecs_service" "this" {
  #checkov:skip=CKV_AWS_333:Without a NAT tasks need a public address to reach upstream (assign_public_ip); their security group lets nothing in.
  name            = local.service_name
  cluster         = aws_ecs_cluster.this.arn
  task_definition = aws_ecs_task_definition.this.arn
  desired_count   = 0

  # Other weights of Spot are a new deployment then, and no new service.
  force_new_deployment = true

  enable_ecs_managed_tags = true
  propagate_tags          = "SERVICE"

  capacity_provider_strategy {
    capacity_provider = "FARGATE"
    base              = var.fargate_base
    weight            = var.fargate_weight
  }

  dynamic "capacity_provider_strategy" {
    for_each = var.enable_spot ? [var.fargate_spot_weight] : []

    content {
      capacity_provider = "FARGATE_SPOT"
      weight            = capacity_provider_strategy.value
    }
  }

  network_configuration {
    subnets          = var.subnet_ids
    security_groups  = var.security_group_ids
    assign_public_ip = var.assign_public_ip
  }

  # A broken image is taken back by itself, where tasks run when it is deployed.
  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  lifecycle {
    # A plan raises it, and autoscaling takes it back to none.
    ignore_changes = [desired_count]
  }

  depends_on = [aws_ecs_cluster_capacity_providers.this]
}

# Tasks that end by themselves or can't start: ECS counts them nowhere, so a rule
# does, and keeps why they stopped.

locals {
  stopped_tasks_log_group_name = "/aws/events/${var.name}-stopped-tasks"
  stopped_tasks_log_group_arn  = "arn:${var.context.partition}:logs:${var.context.region}:${var.context.account_id}:log-group:${local.stopped_tasks_log_group_name}"
}

resource "aws_cloudwatch_event_rule" "stopped_tasks" {
  name        = "${var.name}-stopped-tasks"
  description = "Tasks of ${local.service_name} that could not start, whose container ended by itself, or that were not healthy."

  # Scaling in, deployments and Spot's interruptions have other codes.
  # https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Task.html
  event_pattern = jsonencode({
    source      = ["aws.ecs"]
    detail-type = ["ECS Task State Change"]
    detail = {
      clusterArn = [local.cluster_arn]
      group      = ["service:${local.service_name}"]
      lastStatus = ["STOPPED"]
      "$or" = [
        { stopCode = ["EssentialContainerExited", "TaskFailedToStart"] },
        # The scheduler's code, as for scaling in, but its own words.
        { stoppedReason = [{ prefix = "Task failed" }] },
      ]
    }
  })
}

resource "aws_cloudwatch_log_group" "stopped_tasks" {
  #checkov:skip=CKV_AWS_158:It holds ECS's own events.
  #checkov:skip=CKV_AWS_338:How long logs are kept is the user's choice (log_retention_days).
  name              = local.stopped_tasks_log_group_name
  retention_in_days = var.log_retention_days
}

resource "aws_cloudwatch_log_resource_policy" "stopped_tasks" {
  policy_name = "${var.name}-stopped-tasks"
  policy_document = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "EventsAreKept"
      Effect    = "Allow"
      Principal = { Service = ["delivery.logs.amazonaws.com", "events.amazonaws.com"] }
      Action    = ["logs:CreateLogStream", "logs:PutLogEvents"]
      Resource  = "${local.stopped_tasks_log_group_arn}:*"
    }]
  })
}

resource "aws_cloudwatch_event_target" "stopped_tasks" {
  rule = aws_cloudwatch_event_rule.stopped_tasks.name
  arn  = aws_cloudwatch_log_group.stopped_tasks.arn

  depends_on = [aws_cloudwatch_log_resource_policy.stopped_tasks]
}
