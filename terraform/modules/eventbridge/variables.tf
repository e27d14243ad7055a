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

variable "group_name" {
  description = "The name of the schedules' group, which their role is for."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_.-]{1,64}$", var.group_name))
    error_message = "group_name takes up to 64 letters, digits, _, . and -."
  }
}

variable "role_arn" {
  description = "The role that invokes the functions."
  type        = string
  nullable    = false

  validation {
    condition     = var.role_arn != ""
    error_message = "role_arn takes a role's ARN."
  }
}

variable "plan_function_arn" {
  description = "The function that plans."
  type        = string
  nullable    = false

  validation {
    condition     = var.plan_function_arn != ""
    error_message = "plan_function_arn takes a function's ARN."
  }
}

variable "settle_function_arn" {
  description = "The function that settles."
  type        = string
  nullable    = false

  validation {
    condition     = var.settle_function_arn != ""
    error_message = "settle_function_arn takes a function's ARN."
  }
}

variable "plan_schedule" {
  description = "When to plan: cron(…) or rate(…)."
  type        = string
  default     = "cron(0 3 ? * SUN *)"
  nullable    = false

  validation {
    condition     = can(regex("^(cron\\([^()]+\\)|rate\\([1-9][0-9]* (minutes?|hours?|days?)\\))$", var.plan_schedule))
    error_message = "plan_schedule takes cron(0 3 ? * SUN *), with six fields, or rate(6 hours)."
  }

  validation {
    condition     = !startswith(var.plan_schedule, "cron(") || length(split(" ", trimsuffix(trimprefix(var.plan_schedule, "cron("), ")"))) == 6
    error_message = "plan_schedule: cron takes six fields: minutes, hours, day of month, month, day of week, year; one of the two days is ?."
  }
}

variable "settle_schedule" {
  description = "When to settle: rate(…) of some minutes. It costs next to nothing while there is nothing to do."
  type        = string
  default     = "rate(5 minutes)"
  nullable    = false

  validation {
    condition     = can(regex("^rate\\(([1-9]|[1-5][0-9]|60) minutes?\\)$", var.settle_schedule))
    error_message = "settle_schedule takes rate(N minutes), at most 60: the alarms expect to hear of it at least once in two hours."
  }
}

variable "timezone" {
  description = "The time zone of plan_schedule, such as UTC or Europe/Berlin."
  type        = string
  default     = "UTC"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$", var.timezone))
    error_message = "timezone takes a name of the IANA database, such as UTC or Europe/Berlin."
  }
}

variable "state" {
  description = "ENABLED, or DISABLED for a system that plans by hand only. Settling goes on."
  type        = string
  default     = "ENABLED"
  nullable    = false

  validation {
    condition     = contains(["ENABLED", "DISABLED"], var.state)
    error_message = "state takes ENABLED or DISABLED."
  }
}

variable "maximum_retry_attempts" {
  description = "How often the scheduler tries again to hand a plan to Lambda."
  type        = number
  default     = 3
  nullable    = false

  validation {
    condition     = var.maximum_retry_attempts >= 0 && var.maximum_retry_attempts <= 185
    error_message = "maximum_retry_attempts takes 0 to 185, as the scheduler does."
  }
}

variable "maximum_event_age_seconds" {
  description = "For how long the scheduler tries to hand a plan to Lambda, in seconds."
  type        = number
  default     = 3600
  nullable    = false

  validation {
    condition     = var.maximum_event_age_seconds >= 60 && var.maximum_event_age_seconds <= 86400
    error_message = "maximum_event_age_seconds takes 60 to 86400 seconds, as the scheduler does."
  }
}

variable "queues_kms_key_arn" {
  description = "The ARN of the KMS key that encrypts the scheduler's dead letters; SQS's own keys where it is empty."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.queues_kms_key_arn == "" || can(regex("^arn:[a-z-]+:kms:", var.queues_kms_key_arn))
    error_message = "queues_kms_key_arn takes a key's ARN."
  }
}
