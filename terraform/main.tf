data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_availability_zones" "available" {
  #checkov:skip=CKV_AWS_394:The first two are taken, however many there are; availability_zones pins them.
  count = length(var.availability_zones) == 0 ? 1 : 0

  state = "available"

  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

locals {
  # The deployment's name: BOTTLES_ENVIRONMENT, what `bottles --stack` takes.
  name = "${var.project_name}-${var.environment}"

  tags = merge(var.tags, {
    Project     = var.project_name
    Environment = var.environment
    Stack       = local.name
    ManagedBy   = "terraform"
  })

  context = {
    partition  = data.aws_partition.current.partition
    region     = var.aws_region
    account_id = data.aws_caller_identity.current.account_id
  }

  # Names are made here where a policy and the thing itself both need them.
  bucket_name         = var.s3_bucket_name == "" ? "${local.name}-${local.context.account_id}" : var.s3_bucket_name
  bucket_arn          = "arn:${local.context.partition}:s3:::${local.bucket_name}"
  cluster_name        = local.name
  service_name        = "${local.name}-consumer"
  schedule_group_name = local.name
  sqs_arn             = "arn:${local.context.partition}:sqs:${local.context.region}:${local.context.account_id}:${local.name}"

  # A key's ID means a key of this account and region.
  kms_key_arns = {
    for use, key in {
      bucket        = [var.s3_kms_key_id, var.aws_region]
      replica       = [var.s3_replica_kms_key_id, var.backup_region]
      queues        = [var.sqs_kms_key_id, var.aws_region]
      notifications = [var.notifications_kms_key_id, var.aws_region]
    } : use => key[0] == "" || startswith(key[0], "arn:") ? key[0] : "arn:${local.context.partition}:kms:${key[1]}:${local.context.account_id}:key/${key[0]}"
  }

  # An image from another repository of ECR must be allowed as well.
  ecr_image        = try(regex("^([0-9]{12})\\.dkr\\.ecr\\.([a-z0-9-]+)\\.amazonaws\\.com(?:\\.cn)?/([^:@]+)[:@]", var.ecs_container_image), null)
  image_repository = local.ecr_image == null ? "${local.context.region}:${local.context.account_id}:repository/${local.name}-consumer-ecs" : "${local.ecr_image[1]}:${local.ecr_image[0]}:repository/${local.ecr_image[2]}"
}

# What the programs are told: README.md has the table of these variables.

locals {
  visibility_seconds = var.large_queue_visibility_seconds
  most_receives      = var.retry_attempts + 1

  everyone = merge(
    {
      BOTTLES_TO                  = "s3://${local.bucket_name}"
      BOTTLES_ENVIRONMENT         = local.name
      BOTTLES_CONCURRENCY         = tostring(var.max_concurrent_downloads)
      BOTTLES_REQUESTS_PER_SECOND = tostring(var.requests_per_second)
      BOTTLES_LOG                 = local.log
    },
    length(var.upstream_rewrite) == 0 ? {} : { BOTTLES_REWRITE = join(",", var.upstream_rewrite) },
    length(var.upstream_allow_hosts) == 0 ? {} : { BOTTLES_ALLOW_HOST = join(",", var.upstream_allow_hosts) },
    var.extra_environment,
  )
  log = lower(var.log_level == "WARNING" ? "warn" : var.log_level)

  small_queue = {
    BOTTLES_SMALL_QUEUE        = module.sqs.queues["small"].url
    BOTTLES_SMALL_DEAD_LETTERS = module.sqs.dead_letters["small"].url
  }
  large_queue = {
    BOTTLES_LARGE_QUEUE        = module.sqs.queues["large"].url
    BOTTLES_LARGE_DEAD_LETTERS = module.sqs.dead_letters["large"].url
  }
  service = {
    BOTTLES_ECS_CLUSTER = local.cluster_name
    BOTTLES_ECS_SERVICE = local.service_name
  }
  slack = var.enable_slack_notifications ? { BOTTLES_SLACK_SECRET = module.notifications.slack_secret_name } : {}

  producer_environment = merge(
    local.everyone, local.small_queue, local.large_queue, local.service, local.slack,
    {
      BOTTLES_SELECTION      = "s3://${local.bucket_name}/${aws_s3_object.selection.key}"
      BOTTLES_SIZE_THRESHOLD = "${floor(1000 * var.size_threshold_gb)}MB"
      BOTTLES_MOST_TASKS     = tostring(var.ecs_max_tasks)
      BOTTLES_PER_TASK       = tostring(var.ecs_bottles_per_task)
      BOTTLES_EXPIRE_AFTER   = "${var.s3_lifecycle_expiration_days}d"
    },
    var.upstream_api_url == "" ? {} : { BOTTLES_API_URL = var.upstream_api_url },
    var.enable_sns_notifications ? { BOTTLES_SNS_TOPIC = module.notifications.topic_arn } : {},
  )
  alarms_environment = merge(
    { BOTTLES_ENVIRONMENT = local.name, BOTTLES_LOG = local.log }, local.slack, var.extra_environment,
  )
  consumer_lambda_environment = merge(
    local.everyone, local.small_queue, { BOTTLES_MOST_RECEIVES = tostring(local.most_receives) },
  )
  consumer_ecs_environment = merge(
    local.everyone, local.large_queue,
    {
      BOTTLES_MOST_RECEIVES = tostring(local.most_receives)
      BOTTLES_VISIBILITY    = "${local.visibility_seconds}s"
      BOTTLES_STOP_TIMEOUT  = "${var.ecs_stop_timeout - 10}s"
      BOTTLES_MEMORY        = "${floor(var.ecs_task_memory / 2)}MiB"
    },
  )

  platforms = length(var.target_platforms) == 0 ? "# everything\n" : "tags = ${jsonencode(var.target_platforms)}\n"
  selection = var.selection == "" ? local.platforms : var.selection
}

module "network" {
  source = "./modules/network"

  name                    = local.name
  context                 = local.context
  vpc_cidr                = var.vpc_cidr
  availability_zones      = length(var.availability_zones) == 0 ? slice(data.aws_availability_zones.available[0].names, 0, 2) : var.availability_zones
  public_subnet_cidrs     = var.public_subnet_cidrs
  private_subnet_cidrs    = var.private_subnet_cidrs
  nat                     = var.enable_nat_gateway ? (var.nat_gateway_per_availability_zone ? "per-zone" : "single") : "none"
  interface_endpoints     = var.interface_endpoints
  task_egress_ports       = var.ecs_egress_ports
  s3_bucket_arns          = [local.bucket_arn]
  enable_flow_logs        = var.enable_flow_logs
  flow_log_retention_days = var.log_retention_days
}

module "s3" {
  source = "./modules/s3"

  providers = {
    aws        = aws
    aws.backup = aws.backup
  }

  name                               = local.name
  context                            = local.context
  bucket_name                        = local.bucket_name
  force_destroy                      = var.s3_force_destroy
  enable_versioning                  = var.s3_enable_versioning
  superseded_expiration_days         = var.s3_lifecycle_expiration_days
  noncurrent_version_expiration_days = var.s3_noncurrent_version_expiration_days
  intelligent_tiering_after_days     = var.s3_intelligent_tiering_days
  enable_flat_names                  = var.enable_flat_names
  kms_key_arn                        = local.kms_key_arns.bucket
  access_log_bucket                  = var.s3_enable_access_logging ? var.s3_access_log_bucket : ""
  enable_replication                 = var.s3_enable_replication
  replica_kms_key_arn                = local.kms_key_arns.replica
  enable_cdn                         = var.enable_cdn
  cdn_distribution_arn               = var.enable_cdn ? module.cdn[0].distribution_arn : ""
  reader_vpc_endpoint_ids            = var.reader_vpc_endpoint_ids
}

# Beside the state, where clients don't see it. A plan reads it each time.
resource "aws_s3_object" "selection" {
  #checkov:skip=CKV_AWS_186:It is encrypted as the bucket is.
  bucket       = module.s3.bucket_name
  key          = "_sync/selection.toml"
  content      = local.selection
  content_type = "application/toml"
}

module "sqs" {
  source = "./modules/sqs"

  name                     = local.name
  context                  = local.context
  most_receives            = local.most_receives
  function_timeout_seconds = var.lambda_sync_timeout
  large_visibility_seconds = local.visibility_seconds
  kms_key_arn              = local.kms_key_arns.queues
}

module "iam" {
  source = "./modules/iam"

  name              = local.name
  context           = local.context
  bucket_arn        = local.bucket_arn
  enable_flat_names = var.enable_flat_names
  queue_arns        = { for lane, queue in module.sqs.queues : lane => queue.arn }
  dead_letter_arns  = { for lane, queue in module.sqs.dead_letters : lane => queue.arn }
  function_names = {
    plan     = "${local.name}-plan"
    settle   = "${local.name}-settle"
    consumer = "${local.name}-consumer"
    alarms   = var.enable_slack_notifications ? "${local.name}-alarms" : null
  }
  failures_queue_arn         = "${local.sqs_arn}-failed-invocations"
  scheduler_dead_letters_arn = "${local.sqs_arn}-scheduler-dead-letters"
  schedule_group_name        = local.schedule_group_name
  ecs = {
    cluster_name   = local.cluster_name
    service_name   = local.service_name
    log_group_name = "/ecs/${local.service_name}"
  }
  image_repository_arns     = ["arn:${local.context.partition}:ecr:${local.image_repository}"]
  enable_slack              = var.enable_slack_notifications
  slack_secret_arn          = module.notifications.slack_secret_arn
  enable_topic              = var.enable_sns_notifications
  topic_arn                 = module.notifications.topic_arn
  bucket_kms_key_arn        = local.kms_key_arns.bucket
  queues_kms_key_arn        = local.kms_key_arns.queues
  notifications_kms_key_arn = module.notifications.kms_key_arn
}

module "lambda" {
  source = "./modules/lambda"

  name                         = local.name
  context                      = local.context
  producer_zip_path            = var.lambda_orchestrator_zip_path
  consumer_zip_path            = var.lambda_sync_zip_path
  architecture                 = var.lambda_architecture
  role_arns                    = module.iam.role_arns
  producer_environment         = local.producer_environment
  alarms_environment           = local.alarms_environment
  consumer_environment         = local.consumer_lambda_environment
  enable_alarms                = var.enable_slack_notifications
  producer_memory_mb           = var.lambda_orchestrator_memory_size
  producer_timeout_seconds     = var.lambda_orchestrator_timeout
  consumer_memory_mb           = var.lambda_sync_memory_size
  consumer_timeout_seconds     = var.lambda_sync_timeout
  consumer_batch_size          = var.lambda_sync_batch_size
  consumer_maximum_concurrency = var.lambda_sync_maximum_concurrency
  small_queue_arn              = module.sqs.queues["small"].arn
  maximum_retry_attempts       = var.lambda_max_retry_attempts
  log_retention_days           = var.log_retention_days
  queues_kms_key_arn           = local.kms_key_arns.queues

  # A function that begins before its bucket is private would write to an open one.
  depends_on = [module.s3]
}

module "ecs" {
  source = "./modules/ecs"

  name                      = local.name
  context                   = local.context
  container_image           = var.ecs_container_image
  cpu_architecture          = var.ecs_cpu_architecture
  task_cpu                  = var.ecs_task_cpu
  task_memory               = var.ecs_task_memory
  ephemeral_storage_size_gb = var.ecs_ephemeral_storage_size_gb
  stop_timeout_seconds      = var.ecs_stop_timeout
  environment               = local.consumer_ecs_environment
  task_role_arn             = module.iam.role_arns["task"]
  execution_role_arn        = module.iam.role_arns["task-execution"]
  subnet_ids                = module.network.task_subnet_ids
  security_group_ids        = [module.network.task_security_group_id]
  assign_public_ip          = module.network.task_assign_public_ip
  fargate_weight            = var.ecs_fargate_weight
  fargate_base              = var.ecs_fargate_base_capacity
  enable_spot               = var.ecs_enable_fargate_spot
  fargate_spot_weight       = var.ecs_fargate_spot_weight
  enable_container_insights = var.ecs_enable_container_insights
  log_retention_days        = var.log_retention_days
}

module "autoscaling" {
  source = "./modules/autoscaling"
  count  = var.aws_is_emulated ? 0 : 1

  name             = local.name
  cluster_name     = module.ecs.cluster_name
  service_name     = module.ecs.service_name
  queue_name       = module.sqs.queues["large"].name
  max_tasks        = var.ecs_max_tasks
  bottles_per_task = var.ecs_bottles_per_task
}

module "eventbridge" {
  source = "./modules/eventbridge"

  name                      = local.name
  context                   = local.context
  group_name                = local.schedule_group_name
  role_arn                  = module.iam.role_arns["scheduler"]
  plan_function_arn         = module.lambda.functions["plan"].arn
  settle_function_arn       = module.lambda.functions["settle"].arn
  plan_schedule             = var.schedule_expression
  settle_schedule           = var.settle_schedule_expression
  timezone                  = var.schedule_timezone
  state                     = var.eventbridge_rule_state
  maximum_retry_attempts    = var.eventbridge_max_retry_attempts
  maximum_event_age_seconds = var.eventbridge_max_event_age_seconds
  queues_kms_key_arn        = local.kms_key_arns.queues
}

module "notifications" {
  source = "./modules/notifications"

  name                        = local.name
  context                     = local.context
  enable_slack                = var.enable_slack_notifications
  slack_webhook_url           = var.slack_webhook_url
  slack_webhook_version       = var.slack_webhook_version
  alarms_function             = var.enable_slack_notifications ? module.lambda.functions["alarms"] : { name = "", arn = "" }
  email_addresses             = var.notification_email_addresses
  kms_key_arn                 = local.kms_key_arns.notifications
  secret_recovery_window_days = var.secret_recovery_window_days
  replica_region              = var.enable_cross_region_backup ? var.backup_region : ""
}

module "monitoring" {
  source = "./modules/monitoring"

  name           = local.name
  context        = local.context
  enable_alarms  = var.enable_cloudwatch_alarms
  enable_queries = !var.aws_is_emulated
  topic_arn      = module.notifications.topic_arn
  queue_names = {
    small                  = module.sqs.queues["small"].name
    large                  = module.sqs.queues["large"].name
    small_dead_letters     = module.sqs.dead_letters["small"].name
    large_dead_letters     = module.sqs.dead_letters["large"].name
    failures               = module.lambda.failures_queue.name
    scheduler_dead_letters = module.eventbridge.dead_letters.name
  }
  functions = module.lambda.functions
  ecs = {
    cluster_name   = module.ecs.cluster_name
    service_name   = module.ecs.service_name
    log_group_name = module.ecs.log_group_name
    stopped_tasks  = module.ecs.stopped_tasks
  }
  bucket_name                        = local.bucket_name
  nat_gateway_ids                    = module.network.nat_gateway_ids
  oldest_message_hours               = var.oldest_message_hours
  settled_run_max_age_hours          = var.settled_run_max_age_hours
  upstream_failures_per_quarter_hour = var.upstream_failures_per_quarter_hour
  monthly_budget_usd                 = var.monthly_budget_usd
  budget_scope                       = var.budget_scope
}

module "cdn" {
  source = "./modules/cdn"
  count  = var.enable_cdn ? 1 : 0

  name                        = local.name
  bucket_regional_domain_name = module.s3.bucket_regional_domain_name
  enable_flat_names           = var.enable_flat_names
  price_class                 = var.cdn_price_class
  aliases                     = var.cdn_aliases
  acm_certificate_arn         = var.cdn_acm_certificate_arn == "" ? null : var.cdn_acm_certificate_arn
  web_acl_arn                 = var.cdn_web_acl_arn == "" ? null : var.cdn_web_acl_arn
}

# What `bottles --stack` looks up: the programs' variables, in small letters and
# without their prefix.
resource "aws_ssm_parameter" "stack" {
  #checkov:skip=CKV2_AWS_34:Names and URLs, and no secret.
  name        = "/bottles/${local.name}"
  description = "The parts of this deployment, for bottles --stack ${local.name}."
  type        = "String"
  value = jsonencode({
    to                 = "s3://${local.bucket_name}"
    small_queue        = module.sqs.queues["small"].url
    small_dead_letters = module.sqs.dead_letters["small"].url
    large_queue        = module.sqs.queues["large"].url
    large_dead_letters = module.sqs.dead_letters["large"].url
    producer           = module.lambda.functions["plan"].name
    ecs_cluster        = module.ecs.cluster_name
    ecs_service        = module.ecs.service_name
    expire_after       = "${var.s3_lifecycle_expiration_days}d"
  })
}

# Bottles of taps on an OCI registry get no flat names, and Terraform can't tell one from the other.
check "taps_have_their_names" {
  assert {
    condition     = var.enable_flat_names || !can(regex("(?m)^[ \\t]*(\\[\\[[ \\t]*taps[ \\t]*\\]\\]|taps[ \\t]*=)", var.selection))
    error_message = "The selection names taps. Where one keeps its bottles on a plain file host, settle gives them flat names below taps/, and their clients wait for ever unless enable_flat_names is true."
  }
}

check "somebody_is_told" {
  assert {
    condition     = var.enable_slack_notifications || length(var.notification_email_addresses) > 0
    error_message = "Nobody is told of alarms: set notification_email_addresses, or enable_slack_notifications."
  }
}
