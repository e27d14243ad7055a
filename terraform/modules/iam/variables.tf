variable "name" {
  description = "Prefix of all names, such as homebrew-bottles-sync-prod."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,39}$", var.name))
    error_message = "name takes 2 to 40 small letters, digits and -, and does not begin with -."
  }
}

variable "context" {
  description = "Where this is deployed: the partition, region and account, for the ARNs in policies."
  type        = object({ partition = string, region = string, account_id = string })
  nullable    = false

  validation {
    condition     = can(regex("^[0-9]{12}$", var.context.account_id))
    error_message = "context.account_id takes the twelve digits of an account."
  }
}

variable "bucket_arn" {
  description = "The ARN of the mirror's bucket."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^arn:[a-z-]+:s3:::[a-z0-9.-]+$", var.bucket_arn))
    error_message = "bucket_arn takes a bucket's ARN, arn:aws:s3:::NAME, without a path."
  }
}

variable "enable_flat_names" {
  description = "Whether the producer keeps copies of bottles under flat names, at the bucket's root and below taps/."
  type        = bool
  default     = false
  nullable    = false
}

variable "queue_arns" {
  description = "The ARNs of the work queues."
  type        = object({ small = string, large = string })
  nullable    = false

  validation {
    condition     = alltrue([for arn in values(var.queue_arns) : can(regex("^arn:[a-z-]+:sqs:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]+$", arn))])
    error_message = "queue_arns takes ARNs of queues, each of one queue."
  }
}

variable "dead_letter_arns" {
  description = "The ARNs of their dead-letter queues."
  type        = object({ small = string, large = string })
  nullable    = false

  validation {
    condition     = alltrue([for arn in values(var.dead_letter_arns) : can(regex("^arn:[a-z-]+:sqs:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]+$", arn))])
    error_message = "dead_letter_arns takes ARNs of queues, each of one queue."
  }
}

variable "function_names" {
  description = "The names of the functions; alarms is null where alarms don't go to Slack."
  type        = object({ plan = string, settle = string, alarms = optional(string), consumer = string })
  nullable    = false

  validation {
    condition     = alltrue([for name in values(var.function_names) : name == null || can(regex("^[A-Za-z0-9_-]{1,64}$", name))])
    error_message = "function_names takes names of functions: up to 64 letters, digits, _ and -."
  }
}

variable "failures_queue_arn" {
  description = "The ARN of the queue that takes invocations which failed for good."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^arn:[a-z-]+:sqs:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]+$", var.failures_queue_arn))
    error_message = "failures_queue_arn takes the ARN of one queue."
  }
}

variable "scheduler_dead_letters_arn" {
  description = "The ARN of the queue that takes what the scheduler could not deliver."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^arn:[a-z-]+:sqs:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]+$", var.scheduler_dead_letters_arn))
    error_message = "scheduler_dead_letters_arn takes the ARN of one queue."
  }
}

variable "schedule_group_name" {
  description = "The name of the scheduler's group that may take the scheduler's role."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_.-]{1,64}$", var.schedule_group_name))
    error_message = "schedule_group_name takes up to 64 letters, digits, _, . and -."
  }
}

variable "ecs" {
  description = "The names of the cluster, of the service in it and of its log group."
  type        = object({ cluster_name = string, service_name = string, log_group_name = string })
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]+$", var.ecs.cluster_name)) && can(regex("^[A-Za-z0-9_-]+$", var.ecs.service_name))
    error_message = "ecs takes names, not ARNs, of the cluster and the service."
  }
}

variable "image_repository_arns" {
  description = "The ARNs of the ECR repositories that the service's image may be pulled from; none for an image from elsewhere."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for arn in var.image_repository_arns : can(regex("^arn:[a-z-]+:ecr:[a-z0-9-]+:[0-9]{12}:repository/[^*]+$", arn))])
    error_message = "image_repository_arns takes ARNs of repositories, each of one."
  }
}

variable "slack_secret_arn" {
  description = "The ARN of the secret with Slack's webhook; looked at where enable_slack is true."
  type        = string
  default     = ""
  nullable    = false
}

variable "enable_slack" {
  description = "Whether there is a secret to be read."
  type        = bool
  default     = false
  nullable    = false
}

variable "topic_arn" {
  description = "The ARN of the topic that the producer publishes to; looked at where enable_topic is true."
  type        = string
  default     = ""
  nullable    = false
}

variable "enable_topic" {
  description = "Whether the producer publishes to the topic."
  type        = bool
  default     = false
  nullable    = false
}

variable "bucket_kms_key_arn" {
  description = "The ARN of the bucket's KMS key; empty where it has none of its own."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.bucket_kms_key_arn == "" || can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/[^*]+$", var.bucket_kms_key_arn))
    error_message = "bucket_kms_key_arn takes a key's ARN, arn:aws:kms:REGION:ACCOUNT:key/ID."
  }
}

variable "queues_kms_key_arn" {
  description = "The ARN of the queues' KMS key; empty where they have none of their own."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.queues_kms_key_arn == "" || can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/[^*]+$", var.queues_kms_key_arn))
    error_message = "queues_kms_key_arn takes a key's ARN, arn:aws:kms:REGION:ACCOUNT:key/ID."
  }
}

variable "notifications_kms_key_arn" {
  description = "The ARN of the KMS key of the topic and the secret; looked at where enable_slack or enable_topic is true."
  type        = string
  default     = ""
  nullable    = false
}
