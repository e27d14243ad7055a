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

variable "enable_alarms" {
  description = "Whether alarms are made. The dashboard and the queries are made either way."
  type        = bool
  default     = true
  nullable    = false
}

variable "enable_queries" {
  description = "Whether queries of CloudWatch Logs Insights are saved."
  type        = bool
  default     = true
  nullable    = false
}

variable "topic_arn" {
  description = "The topic that alarms go to."
  type        = string
  nullable    = false

  validation {
    condition     = var.topic_arn != ""
    error_message = "topic_arn takes the ARN of a topic: an alarm that goes nowhere is none."
  }
}

variable "queue_names" {
  description = "The names of the work queues, of their dead-letter queues, of the queue of failed invocations and of the scheduler's dead letters."
  type = object({
    small    = string, large = string, small_dead_letters = string, large_dead_letters = string,
    failures = string, scheduler_dead_letters = string
  })
  nullable = false

  validation {
    condition     = alltrue([for name in values(var.queue_names) : can(regex("^[A-Za-z0-9_-]{1,80}$", name))])
    error_message = "queue_names takes names of queues, not URLs or ARNs."
  }
}

variable "functions" {
  description = "The functions plan, settle and consumer, and alarms where there is one: name, log group and timeout in seconds."
  type        = map(object({ name = string, log_group = string, timeout_seconds = number }))
  nullable    = false

  validation {
    condition     = length(setsubtract(["plan", "settle", "consumer"], keys(var.functions))) == 0
    error_message = "functions takes at least plan, settle and consumer."
  }
}

variable "ecs" {
  description = "The cluster, the service in it, its log group, the rule that counts tasks which stop abnormally, and its log group."
  type = object({
    cluster_name  = string, service_name = string, log_group_name = string,
    stopped_tasks = object({ rule_name = string, log_group_name = string })
  })
  nullable = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]+$", var.ecs.cluster_name)) && can(regex("^[A-Za-z0-9_-]+$", var.ecs.service_name))
    error_message = "ecs takes names, not ARNs, of the cluster and the service."
  }
}

variable "bucket_name" {
  description = "The bucket's name, for its size on the dashboard."
  type        = string
  nullable    = false

  validation {
    condition     = var.bucket_name != ""
    error_message = "bucket_name takes the bucket's name."
  }
}

variable "nat_gateway_ids" {
  description = "The NAT gateways, whose bytes are paid for, for the dashboard; none where there are none."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = length(var.nat_gateway_ids) <= 10
    error_message = "nat_gateway_ids takes at most ten: the dashboard shows each."
  }
}

variable "oldest_message_hours" {
  description = "How long a bottle may wait on a queue, in hours. A first sync of everything takes some hours."
  type        = number
  default     = 12
  nullable    = false

  validation {
    condition     = var.oldest_message_hours > 0 && var.oldest_message_hours <= 72
    error_message = "oldest_message_hours takes up to 72 hours: after 96 the queue throws the message away."
  }
}

variable "settled_run_max_age_hours" {
  description = "How long ago the last run may have settled, in hours: the schedule's interval, and the time that a run takes."
  type        = number
  default     = 192
  nullable    = false

  validation {
    condition     = var.settled_run_max_age_hours >= 1
    error_message = "settled_run_max_age_hours takes at least an hour."
  }
}

variable "upstream_failures_per_quarter_hour" {
  description = "How many failing answers of upstream in fifteen minutes are too many, of each kind: 5xx, 429, none."
  type        = number
  default     = 200
  nullable    = false

  validation {
    condition     = var.upstream_failures_per_quarter_hour >= 1
    error_message = "upstream_failures_per_quarter_hour takes at least 1: single failures are tried again and harm nobody."
  }
}

variable "monthly_budget_usd" {
  description = "What a month may cost, in US dollars; 0 for no budget."
  type        = number
  default     = 100
  nullable    = false

  validation {
    condition     = var.monthly_budget_usd >= 0
    error_message = "monthly_budget_usd takes dollars; 0 for no budget."
  }
}

variable "budget_scope" {
  description = "What the budget counts: account, for all that the account costs; or stack, for what has this deployment's tag Stack, which must be activated as a cost allocation tag first."
  type        = string
  default     = "account"
  nullable    = false

  validation {
    condition     = contains(["account", "stack"], var.budget_scope)
    error_message = "budget_scope takes account or stack."
  }
}
