locals {
  contract = jsondecode(file("${path.module}/../../contract.json"))

  # The services refuse variables that they don't know.
  known = {
    for service in ["producer", "consumer-lambda"] : service => [
      for name, readers in local.contract.variables : name if contains(readers, service)
    ]
  }

  packages = {
    producer          = var.producer_zip_path
    "consumer-lambda" = var.consumer_zip_path
  }

  functions = merge(
    {
      plan = {
        package     = "producer"
        description = "Puts what upstream has and the mirror hasn't onto the queues."
        role        = var.role_arns["producer"]
        memory      = var.producer_memory_mb
        timeout     = var.producer_timeout_seconds
        environment = var.producer_environment
        # One writer of the manifest: a second plan waits.
        concurrency = 1
        retries     = var.maximum_retry_attempts
        event_age   = 3600
      }
      settle = {
        package     = "producer"
        description = "Folds what the consumers reported, and tells of runs."
        role        = var.role_arns["producer"]
        memory      = var.producer_memory_mb
        timeout     = var.producer_timeout_seconds
        environment = var.producer_environment
        concurrency = 1
        # The next one comes in minutes.
        retries   = 0
        event_age = 900
      }
      consumer = {
        package     = "consumer-lambda"
        description = "Mirrors small bottles."
        role        = var.role_arns["consumer"]
        memory      = var.consumer_memory_mb
        timeout     = var.consumer_timeout_seconds
        environment = var.consumer_environment
        # Held by the mapping instead, which doesn't receive what it can't hand over.
        concurrency = -1
        retries     = 0
        event_age   = 900
      }
    },
    { for alarms in var.enable_alarms ? ["alarms"] : [] : alarms => {
      package     = "producer"
      description = "Passes alarms on to Slack."
      role        = var.role_arns["alarms"]
      memory      = 256
      timeout     = 60
      environment = var.alarms_environment
      concurrency = -1
      retries     = var.maximum_retry_attempts
      event_age   = 3600
    } },
  )
}

# Made first: a function that finds none makes one that keeps logs for ever.
resource "aws_cloudwatch_log_group" "this" {
  #checkov:skip=CKV_AWS_158:Logs hold no secrets (docs/logging.md), and CloudWatch encrypts them with its own keys.
  #checkov:skip=CKV_AWS_338:How long logs are kept is the user's choice (log_retention_days).
  for_each = local.functions

  name              = "/aws/lambda/${var.name}-${each.key}"
  retention_in_days = var.log_retention_days
}

# Invocations that failed for good, with their errors.
resource "aws_sqs_queue" "failures" {
  #checkov:skip=CKV_AWS_27:It is encrypted, with SQS's keys or with one of KMS; the check does not see through the condition.
  name                      = "${var.name}-failed-invocations"
  message_retention_seconds = local.contract.dead_letter_retention_seconds

  sqs_managed_sse_enabled           = var.queues_kms_key_arn == "" ? true : null
  kms_master_key_id                 = var.queues_kms_key_arn == "" ? null : var.queues_kms_key_arn
  kms_data_key_reuse_period_seconds = var.queues_kms_key_arn == "" ? null : 3600
}

resource "aws_sqs_queue_policy" "failures" {
  queue_url = aws_sqs_queue.failures.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "OnlyOverTls"
      Effect    = "Deny"
      Principal = "*"
      Action    = "sqs:*"
      Resource  = local.failures_arn
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })
}

locals {
  failures_arn = "arn:${var.context.partition}:sqs:${var.context.region}:${var.context.account_id}:${var.name}-failed-invocations"
}

resource "aws_lambda_function" "this" {
  #checkov:skip=CKV_AWS_50:The functions emit no traces; their logs carry the ids of runs, messages and bottles.
  #checkov:skip=CKV_AWS_115:Plan and settle have a reserved concurrency of one; the consumer is held by its mapping.
  #checkov:skip=CKV_AWS_116:Asynchronous invocations that fail go to a queue by their invoke configuration, with the error; the consumer's messages have their own dead-letter queue.
  #checkov:skip=CKV_AWS_117:A VPC would cost a NAT and gain nothing: the functions reach upstream and AWS's own endpoints over TLS.
  #checkov:skip=CKV_AWS_173:No variable is a secret: Slack's is named, not held. Lambda encrypts them with its own key.
  #checkov:skip=CKV_AWS_272:Packages are built and deployed by the same hands; their sha256 is in the plan.
  #checkov:skip=CKV_AWS_363:provided.al2023 is the current one.
  for_each = local.functions

  function_name = "${var.name}-${each.key}"
  description   = each.value.description
  role          = each.value.role

  filename         = local.packages[each.value.package]
  source_code_hash = try(filebase64sha256(local.packages[each.value.package]), null)
  runtime          = "provided.al2023"
  handler          = "bootstrap"
  architectures    = [var.architecture]

  memory_size                    = each.value.memory
  timeout                        = each.value.timeout
  reserved_concurrent_executions = each.value.concurrency

  environment {
    variables = each.value.environment
  }

  # Plain text: the programs write JSON themselves, and metrics beside it.
  logging_config {
    log_format = "Text"
    log_group  = aws_cloudwatch_log_group.this[each.key].name
  }

  lifecycle {
    precondition {
      condition = alltrue([
        for name in keys(each.value.environment) : contains(local.known[each.value.package], name) if startswith(name, "BOTTLES_")
      ])
      error_message = "A variable that begins with BOTTLES_ is none that ${each.value.package} reads (see contract.json): it would refuse to start."
    }

    precondition {
      condition     = fileexists(local.packages[each.value.package])
      error_message = "The package ${local.packages[each.value.package]} is not there: scripts/build-lambda-packages.sh builds it."
    }
  }
}

# What the scheduler and SNS send is tried again by Lambda, and then kept.
resource "aws_lambda_function_event_invoke_config" "this" {
  for_each = { for name, function in local.functions : name => function if name != "consumer" }

  function_name                = aws_lambda_function.this[each.key].function_name
  maximum_retry_attempts       = each.value.retries
  maximum_event_age_in_seconds = each.value.event_age

  # A settle that failed is mended by the next one: kept, it would be an alarm
  # until somebody empties the queue. settle-errors tells of those that go on.
  dynamic "destination_config" {
    for_each = each.key == "settle" ? [] : [aws_sqs_queue.failures.arn]

    content {
      on_failure {
        destination = destination_config.value
      }
    }
  }
}

resource "aws_lambda_event_source_mapping" "consumer" {
  event_source_arn = var.small_queue_arn
  function_name    = aws_lambda_function.this["consumer"].function_name

  # One bottle that fails does not bring back the others of its batch.
  function_response_types            = ["ReportBatchItemFailures"]
  batch_size                         = var.consumer_batch_size
  maximum_batching_window_in_seconds = 2

  scaling_config {
    maximum_concurrency = var.consumer_maximum_concurrency
  }
}
