locals {
  contract = jsondecode(file("${path.module}/../../contract.json"))

  # Six times as long as the function may run, by AWS's advice: nobody extends
  # the visibility of a batch that Lambda works on, and Lambda receives ahead.
  # https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
  visibility_seconds = {
    small = 6 * var.function_timeout_seconds
    large = var.large_visibility_seconds
  }

  # The consumers give up on a bottle themselves and say why. Redrive is for
  # messages whose processes die, again and again.
  max_receive_count = 2 * var.most_receives

  lanes     = toset(local.contract.queues)
  arns      = { for lane in local.lanes : lane => "${local.arn_prefix}:${var.name}-${lane}" }
  dead_arns = { for lane in local.lanes : lane => "${local.arn_prefix}:${var.name}-${lane}-dead-letters" }

  arn_prefix = "arn:${var.context.partition}:sqs:${var.context.region}:${var.context.account_id}"
}

resource "aws_sqs_queue" "dead_letters" {
  for_each = local.lanes

  name                       = "${var.name}-${each.key}-dead-letters"
  message_retention_seconds  = local.contract.dead_letter_retention_seconds
  visibility_timeout_seconds = 60
  receive_wait_time_seconds  = 20

  sqs_managed_sse_enabled           = var.kms_key_arn == "" ? true : null
  kms_master_key_id                 = var.kms_key_arn == "" ? null : var.kms_key_arn
  kms_data_key_reuse_period_seconds = var.kms_key_arn == "" ? null : 3600
}

resource "aws_sqs_queue" "work" {
  for_each = local.lanes

  name                       = "${var.name}-${each.key}"
  message_retention_seconds  = local.contract.queue_retention_seconds
  visibility_timeout_seconds = local.visibility_seconds[each.key]
  receive_wait_time_seconds  = 20

  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead_letters[each.key].arn
    maxReceiveCount     = local.max_receive_count
  })

  sqs_managed_sse_enabled           = var.kms_key_arn == "" ? true : null
  kms_master_key_id                 = var.kms_key_arn == "" ? null : var.kms_key_arn
  kms_data_key_reuse_period_seconds = var.kms_key_arn == "" ? null : 3600
}

# A dead-letter queue takes from its own queue and from no other.
resource "aws_sqs_queue_redrive_allow_policy" "this" {
  for_each = local.lanes

  queue_url = aws_sqs_queue.dead_letters[each.key].id
  redrive_allow_policy = jsonencode({
    redrivePermission = "byQueue"
    sourceQueueArns   = [local.arns[each.key]]
  })

  depends_on = [aws_sqs_queue.work]
}

locals {
  tls_only = {
    for arn in concat(values(local.arns), values(local.dead_arns)) : arn => jsonencode({
      Version = "2012-10-17"
      Statement = [{
        Sid       = "OnlyOverTls"
        Effect    = "Deny"
        Principal = "*"
        Action    = "sqs:*"
        Resource  = arn
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      }]
    })
  }
}

resource "aws_sqs_queue_policy" "work" {
  for_each = local.lanes

  queue_url = aws_sqs_queue.work[each.key].id
  policy    = local.tls_only[local.arns[each.key]]
}

resource "aws_sqs_queue_policy" "dead_letters" {
  for_each = local.lanes

  queue_url = aws_sqs_queue.dead_letters[each.key].id
  policy    = local.tls_only[local.dead_arns[each.key]]
}
