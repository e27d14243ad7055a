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

variable "most_receives" {
  description = "How often the consumers receive a message before they give up on it themselves."
  type        = number
  default     = 5
  nullable    = false

  validation {
    condition     = var.most_receives >= 1 && floor(var.most_receives) == var.most_receives
    error_message = "most_receives takes a whole number, at least 1."
  }
}

variable "function_timeout_seconds" {
  description = "How long the function that is fed by the small queue may run, in seconds."
  type        = number
  nullable    = false

  validation {
    condition     = var.function_timeout_seconds >= 1 && var.function_timeout_seconds <= 900
    error_message = "function_timeout_seconds takes 1 to 900 seconds, which is as long as Lambda lets a function run."
  }
}

variable "large_visibility_seconds" {
  description = "How long a message of the large queue stays hidden unless it is extended, in seconds: BOTTLES_VISIBILITY."
  type        = number
  default     = 120
  nullable    = false

  validation {
    condition     = var.large_visibility_seconds >= 30 && var.large_visibility_seconds <= 43200
    error_message = "large_visibility_seconds takes 30 to 43200 seconds: the worker extends it three times in that time."
  }
}

variable "kms_key_arn" {
  description = "The ARN of the KMS key that encrypts the queues; SQS's own keys where it is empty."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.kms_key_arn == "" || can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/.+$", var.kms_key_arn))
    error_message = "kms_key_arn takes a key's ARN, arn:aws:kms:REGION:ACCOUNT:key/ID; not an alias."
  }
}
