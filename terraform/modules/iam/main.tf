# Each statement names what it is about; the tests hold the whole list against
# what is allowed. Nobody is given s3:DeleteObject on what clients read.

locals {
  region_arn = "${var.context.region}:${var.context.account_id}"
  functions  = { for name, function in var.function_names : name => "arn:${var.context.partition}:lambda:${local.region_arn}:function:${function}" if function != null }
  log_groups = { for name, function in var.function_names : name => "arn:${var.context.partition}:logs:${local.region_arn}:log-group:/aws/lambda/${function}" if function != null }

  service   = "arn:${var.context.partition}:ecs:${local.region_arn}:service/${var.ecs.cluster_name}/${var.ecs.service_name}"
  tasks     = "arn:${var.context.partition}:ecs:${local.region_arn}:task/${var.ecs.cluster_name}/*"
  ecs_logs  = "arn:${var.context.partition}:logs:${local.region_arn}:log-group:${var.ecs.log_group_name}"
  schedules = "arn:${var.context.partition}:scheduler:${local.region_arn}:schedule-group/${var.schedule_group_name}"

  bottles  = "${var.bucket_arn}/v2/*/blobs/*"
  indexes  = "${var.bucket_arn}/v2/*/manifests/*"
  clients  = "${var.bucket_arn}/v2/*"
  api      = "${var.bucket_arn}/api/*"
  state    = "${var.bucket_arn}/_sync/*"
  receipts = "${var.bucket_arn}/_sync/receipts/*"

  # A * of a policy crosses slashes: these are below taps/ too, and with a rebuild.
  flat_bottles = [for bucket in var.enable_flat_names ? [var.bucket_arn] : [] : "${bucket}/*.bottle.*tar.gz"]
  flat_indexes = [for bucket in var.enable_flat_names ? [var.bucket_arn] : [] : "${bucket}/*/manifests/*"]

  # Without it S3 answers 403 instead of 404 to a question for what isn't there.
  # It can't be narrowed to prefixes: such a question names none.
  list_bucket = { Sid = "ListBucket", Action = ["s3:ListBucket"], Resource = [var.bucket_arn] }

  bucket_key = [for key in var.bucket_kms_key_arn == "" ? [] : [var.bucket_kms_key_arn] : {
    Sid      = "UseTheBucketsKey"
    Action   = ["kms:Decrypt", "kms:GenerateDataKey"]
    Resource = [key]
  }]

  # A sender needs both, a receiver the first alone; our consumers send dead letters.
  queues_key = [for key in var.queues_kms_key_arn == "" ? [] : [var.queues_kms_key_arn] : {
    Sid      = "UseTheQueuesKey"
    Action   = ["kms:Decrypt", "kms:GenerateDataKey"]
    Resource = [key]
  }]

  read_secret = [for arn in var.enable_slack ? [var.slack_secret_arn] : [] : {
    Sid      = "ReadSlacksWebhook"
    Action   = ["secretsmanager:GetSecretValue"]
    Resource = [arn]
  }]

  read_secrets_key = [for key in var.enable_slack ? [var.notifications_kms_key_arn] : [] : {
    Sid      = "DecryptSlacksWebhook"
    Action   = ["kms:Decrypt"]
    Resource = [key]
  }]

  publish = concat(
    [for arn in var.enable_topic ? [var.topic_arn] : [] : {
      Sid      = "PublishNotices"
      Action   = ["sns:Publish"]
      Resource = [arn]
    }],
    [for key in var.enable_topic ? [var.notifications_kms_key_arn] : [] : {
      Sid      = "EncryptNotices"
      Action   = ["kms:Decrypt", "kms:GenerateDataKey"]
      Resource = [key]
    }],
  )

  report_failures = {
    Sid      = "ReportFailedInvocations"
    Action   = ["sqs:SendMessage"]
    Resource = [var.failures_queue_arn]
  }

  consume = { for lane in ["small", "large"] : lane => concat(
    [
      local.list_bucket,
      { Sid = "ReadBottles", Action = ["s3:GetObject"], Resource = [local.clients] },
      { Sid = "WriteBottles", Action = ["s3:AbortMultipartUpload", "s3:PutObject"], Resource = [local.bottles] },
      { Sid = "WriteReceipts", Action = ["s3:PutObject"], Resource = [local.receipts] },
      {
        Sid = "Consume"
        Action = [
          "sqs:ChangeMessageVisibility",
          "sqs:DeleteMessage",
          "sqs:GetQueueAttributes",
          "sqs:ReceiveMessage",
        ]
        Resource = [var.queue_arns[lane]]
      },
      { Sid = "DeadLetter", Action = ["sqs:SendMessage"], Resource = [var.dead_letter_arns[lane]] },
    ],
    local.bucket_key,
    local.queues_key,
  ) }

  lambda = { Service = "lambda.amazonaws.com" }
  # https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-iam-roles.html
  ecs_tasks = { Service = "ecs-tasks.amazonaws.com" }
  of_this_account = {
    StringEquals = { "aws:SourceAccount" = var.context.account_id }
    ArnLike      = { "aws:SourceArn" = "arn:${var.context.partition}:ecs:${local.region_arn}:*" }
  }

  # What each role may do, and who may take it.
  roles = merge(
    {
      producer = {
        principal = local.lambda
        condition = null
        statements = concat(
          [
            { Sid = "WriteLogs", Action = ["logs:CreateLogStream", "logs:PutLogEvents"], Resource = ["${local.log_groups.plan}:*", "${local.log_groups.settle}:*"] },
            local.list_bucket,
            { Sid = "ReadTheMirror", Action = ["s3:GetObject"], Resource = [local.state, local.clients] },
            { Sid = "WriteStateAndIndexes", Action = ["s3:PutObject"], Resource = [local.state, local.indexes] },
            { Sid = "PublishApiFiles", Action = ["s3:PutObject"], Resource = [local.api] },
            # A bottle's tags are given to it by copying it onto itself, which starts
            # the days of the lifecycle rule. ReadTheMirror lets it be read for that.
            { Sid = "Retire", Action = ["s3:PutObject", "s3:PutObjectTagging"], Resource = [local.bottles] },
            { Sid = "RemoveState", Action = ["s3:DeleteObject"], Resource = [local.state] },
            { Sid = "Queue", Action = ["sqs:GetQueueAttributes", "sqs:SendMessage"], Resource = [var.queue_arns.large, var.queue_arns.small] },
            { Sid = "AskForTasks", Action = ["ecs:DescribeServices", "ecs:UpdateService"], Resource = [local.service] },
            local.report_failures,
          ],
          [for names in var.enable_flat_names ? [local.flat_bottles] : [] :
          { Sid = "NameAndRetireFlatCopies", Action = ["s3:GetObject", "s3:PutObject", "s3:PutObjectTagging"], Resource = names }],
          [for names in var.enable_flat_names ? [local.flat_indexes] : [] :
          { Sid = "CopyIndexesBesideThem", Action = ["s3:GetObject", "s3:PutObject"], Resource = names }],
          local.read_secret, local.read_secrets_key, local.publish, local.bucket_key, local.queues_key,
        )
      }
      consumer = {
        principal = local.lambda
        condition = null
        statements = concat(
          [{ Sid = "WriteLogs", Action = ["logs:CreateLogStream", "logs:PutLogEvents"], Resource = ["${local.log_groups.consumer}:*"] }],
          local.consume.small,
        )
      }
      task = {
        principal = local.ecs_tasks
        condition = local.of_this_account
        statements = concat(local.consume.large, [
          # The container agent asks for it in the task's name.
          { Sid = "ProtectItself", Action = ["ecs:UpdateTaskProtection"], Resource = [local.tasks] },
        ])
      }
      task-execution = {
        principal = local.ecs_tasks
        condition = local.of_this_account
        statements = concat(
          [{ Sid = "WriteLogs", Action = ["logs:CreateLogStream", "logs:PutLogEvents"], Resource = ["${local.ecs_logs}:*"] }],
          # AWS knows no resource for the token, which is the registry's.
          [for arns in length(var.image_repository_arns) > 0 ? [var.image_repository_arns] : [] :
          { Sid = "LogInToTheRegistry", Action = ["ecr:GetAuthorizationToken"], Resource = ["*"] }],
          [for arns in length(var.image_repository_arns) > 0 ? [var.image_repository_arns] : [] :
          { Sid = "PullTheImage", Action = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"], Resource = arns }],
        )
      }
      scheduler = {
        principal = { Service = "scheduler.amazonaws.com" }
        condition = {
          StringEquals = {
            "aws:SourceAccount" = var.context.account_id
            "aws:SourceArn"     = local.schedules
          }
        }
        statements = concat(
          [
            { Sid = "Invoke", Action = ["lambda:InvokeFunction"], Resource = [local.functions.plan, local.functions.settle] },
            { Sid = "DeadLetter", Action = ["sqs:SendMessage"], Resource = [var.scheduler_dead_letters_arn] },
          ],
          local.queues_key,
        )
      }
    },
    { for alarms, arn in local.functions : alarms => {
      principal = local.lambda
      condition = null
      statements = concat(
        [
          { Sid = "WriteLogs", Action = ["logs:CreateLogStream", "logs:PutLogEvents"], Resource = ["${local.log_groups.alarms}:*"] },
          local.report_failures,
        ],
        local.read_secret, local.read_secrets_key, local.queues_key,
      )
    } if alarms == "alarms" },
  )
}

resource "aws_iam_role" "this" {
  for_each = local.roles

  name = "${var.name}-${each.key}"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [merge(
      { Sid = "Assume", Effect = "Allow", Principal = each.value.principal, Action = "sts:AssumeRole" },
      each.value.condition == null ? {} : { Condition = each.value.condition },
    )]
  })
}

resource "aws_iam_role_policy" "this" {
  for_each = local.roles

  name = "allowed"
  role = aws_iam_role.this[each.key].id
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [for statement in each.value.statements : merge({ Effect = "Allow" }, statement)]
  })
}
