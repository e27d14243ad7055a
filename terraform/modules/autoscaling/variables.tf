variable "name" {
  description = "Prefix of all names, such as homebrew-bottles-sync-prod."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,39}$", var.name))
    error_message = "name takes 2 to 40 small letters, digits and -, and does not begin with -."
  }
}

variable "cluster_name" {
  description = "The cluster that the service is in."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]+$", var.cluster_name))
    error_message = "cluster_name takes a name, not an ARN."
  }
}

variable "service_name" {
  description = "The service that is scaled."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]+$", var.service_name))
    error_message = "service_name takes a name, not an ARN."
  }
}

variable "queue_name" {
  description = "The queue whose depth the tasks follow."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,80}$", var.queue_name))
    error_message = "queue_name takes a queue's name, not its URL or ARN."
  }
}

variable "max_tasks" {
  description = "No more tasks than this: BOTTLES_MOST_TASKS."
  type        = number
  default     = 4
  nullable    = false

  validation {
    condition     = var.max_tasks >= 1 && floor(var.max_tasks) == var.max_tasks
    error_message = "max_tasks takes a whole number, at least 1."
  }
}

variable "bottles_per_task" {
  description = "The backlog that one task is to have: BOTTLES_PER_TASK."
  type        = number
  default     = 25
  nullable    = false

  validation {
    condition     = var.bottles_per_task >= 1 && floor(var.bottles_per_task) == var.bottles_per_task
    error_message = "bottles_per_task takes a whole number, at least 1."
  }
}

variable "scale_out_cooldown_seconds" {
  description = "How long after tasks were added no more are, in seconds; a task takes about a minute to start."
  type        = number
  default     = 120
  nullable    = false

  validation {
    condition     = var.scale_out_cooldown_seconds >= 60 && var.scale_out_cooldown_seconds <= 3600
    error_message = "scale_out_cooldown_seconds takes 60 to 3600 seconds."
  }
}

variable "idle_minutes" {
  description = "How long nothing is waiting or in flight before all tasks are taken away, in minutes."
  type        = number
  default     = 10
  nullable    = false

  validation {
    condition     = var.idle_minutes >= 3 && var.idle_minutes <= 60 && floor(var.idle_minutes) == var.idle_minutes
    error_message = "idle_minutes takes 3 to 60 whole minutes: SQS tells its depth a minute or two late."
  }
}
