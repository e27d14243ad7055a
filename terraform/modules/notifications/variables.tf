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

variable "enable_slack" {
  description = "Whether Slack is told: by the producer of runs, and by a function of its own of alarms."
  type        = bool
  default     = false
  nullable    = false
}

variable "slack_webhook_url" {
  description = "The URL of Slack's incoming webhook. It goes to Secrets Manager and nowhere else: neither state nor plan hold it."
  type        = string
  default     = null
  ephemeral   = true

  validation {
    condition     = var.slack_webhook_url == null || var.slack_webhook_url == "" || can(regex("^https?://", var.slack_webhook_url))
    error_message = "slack_webhook_url takes the URL of an incoming webhook, https://hooks.slack.com/services/…"
  }
}

variable "slack_webhook_version" {
  description = "Raise it to have slack_webhook_url written; 0 where the secret's value is put by hand."
  type        = number
  default     = 0
  nullable    = false

  validation {
    condition     = var.slack_webhook_version >= 0 && floor(var.slack_webhook_version) == var.slack_webhook_version
    error_message = "slack_webhook_version takes a whole number; 0 for a secret that is written by hand."
  }
}

variable "alarms_function" {
  description = "The function that passes alarms on to Slack, by name and ARN; looked at where enable_slack is true."
  type        = object({ name = string, arn = string })
  default     = { name = "", arn = "" }
  nullable    = false

  validation {
    condition     = !var.enable_slack || var.alarms_function.name != ""
    error_message = "alarms_function is needed where enable_slack is true."
  }
}

variable "email_addresses" {
  description = "Who gets notices and alarms by e-mail. Each of them must confirm once, by the link in AWS's first e-mail."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for address in var.email_addresses : can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", address))])
    error_message = "email_addresses takes e-mail addresses, such as team@example.com."
  }
}

variable "kms_key_arn" {
  description = "The ARN of the KMS key of the topic and the secret; a key of their own is made where it is empty. Its policy must let cloudwatch.amazonaws.com and budgets.amazonaws.com use it, else alarms can't be published."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.kms_key_arn == "" || can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/.+$", var.kms_key_arn))
    error_message = "kms_key_arn takes a key's ARN, arn:aws:kms:REGION:ACCOUNT:key/ID; not an alias."
  }
}

variable "secret_recovery_window_days" {
  description = "Days that a deleted secret can be had back; 0 to delete it at once, and its name can be used again."
  type        = number
  default     = 7
  nullable    = false

  validation {
    condition     = var.secret_recovery_window_days == 0 || (var.secret_recovery_window_days >= 7 && var.secret_recovery_window_days <= 30)
    error_message = "secret_recovery_window_days takes 7 to 30 days, or 0."
  }
}

variable "replica_region" {
  description = "The region that the secret is copied to; none where it is empty."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.replica_region == "" || (can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.replica_region)) && var.replica_region != var.context.region)
    error_message = "replica_region takes another region than the deployment's own, such as eu-central-1."
  }
}
