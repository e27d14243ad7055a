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

variable "producer_zip_path" {
  description = "The package of plan, settle and alarms, with bootstrap in it: build/producer.zip."
  type        = string
  nullable    = false

  validation {
    condition     = var.producer_zip_path != ""
    error_message = "producer_zip_path takes the path of a package; scripts/build-lambda-packages.sh makes build/producer.zip."
  }
}

variable "consumer_zip_path" {
  description = "The package of the consumer, with bootstrap in it: build/consumer-lambda.zip."
  type        = string
  nullable    = false

  validation {
    condition     = var.consumer_zip_path != ""
    error_message = "consumer_zip_path takes the path of a package; scripts/build-lambda-packages.sh makes build/consumer-lambda.zip."
  }
}

variable "architecture" {
  description = "What the packages were built for: x86_64 or arm64."
  type        = string
  default     = "x86_64"
  nullable    = false

  validation {
    condition     = contains(["x86_64", "arm64"], var.architecture)
    error_message = "architecture takes x86_64 or arm64, whichever the packages were built for."
  }
}

variable "role_arns" {
  description = "The roles of the functions, in a map by name: producer, consumer, and alarms where enable_alarms is true."
  type        = map(string)
  nullable    = false

  validation {
    condition     = length(setsubtract(["producer", "consumer"], keys(var.role_arns))) == 0
    error_message = "role_arns takes at least a producer's and a consumer's."
  }
}

variable "producer_environment" {
  description = "The variables of plan and settle."
  type        = map(string)
  nullable    = false

  validation {
    condition     = !anytrue([for name in keys(var.producer_environment) : startswith(name, "AWS_") && name != "AWS_ENDPOINT_URL"])
    error_message = "producer_environment names a variable that begins with AWS_: Lambda keeps those to itself, and sets AWS_REGION."
  }
}

variable "alarms_environment" {
  description = "The variables of the function that passes alarms on to Slack."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = !anytrue([for name in keys(var.alarms_environment) : startswith(name, "AWS_") && name != "AWS_ENDPOINT_URL"])
    error_message = "alarms_environment names a variable that begins with AWS_: Lambda keeps those to itself, and sets AWS_REGION."
  }
}

variable "consumer_environment" {
  description = "The variables of the consumer."
  type        = map(string)
  nullable    = false

  validation {
    condition     = !anytrue([for name in keys(var.consumer_environment) : startswith(name, "AWS_") && name != "AWS_ENDPOINT_URL"])
    error_message = "consumer_environment names a variable that begins with AWS_: Lambda keeps those to itself, and sets AWS_REGION."
  }
}

variable "enable_alarms" {
  description = "Whether there is a function that passes alarms on to Slack."
  type        = bool
  default     = false
  nullable    = false
}

variable "producer_memory_mb" {
  description = "The memory of plan and settle in MB. It takes some 50 MB and 2 kB a bottle."
  type        = number
  default     = 512
  nullable    = false

  validation {
    condition     = var.producer_memory_mb >= 256 && var.producer_memory_mb <= 10240
    error_message = "producer_memory_mb takes 256 to 10240 MB."
  }
}

variable "producer_timeout_seconds" {
  description = "How long plan and settle may run, in seconds. A plan that takes longer fails, and is gone on with by Lambda's retries."
  type        = number
  default     = 900
  nullable    = false

  validation {
    condition     = var.producer_timeout_seconds >= 60 && var.producer_timeout_seconds <= 900
    error_message = "producer_timeout_seconds takes 60 to 900 seconds, which is as long as Lambda lets a function run."
  }
}

variable "consumer_memory_mb" {
  description = "The memory of the consumer in MB; how many bottles it has in hand at once follows it, and so does its share of CPU and network."
  type        = number
  default     = 1024
  nullable    = false

  validation {
    condition     = var.consumer_memory_mb >= 256 && var.consumer_memory_mb <= 10240
    error_message = "consumer_memory_mb takes 256 to 10240 MB."
  }
}

variable "consumer_timeout_seconds" {
  description = "How long the consumer may take for a batch, in seconds. What is not done by then is given back."
  type        = number
  default     = 900
  nullable    = false

  validation {
    condition     = var.consumer_timeout_seconds >= 60 && var.consumer_timeout_seconds <= 900
    error_message = "consumer_timeout_seconds takes 60 to 900 seconds, which is as long as Lambda lets a function run."
  }
}

variable "consumer_batch_size" {
  description = "How many messages the consumer is given at most at once."
  type        = number
  default     = 10
  nullable    = false

  validation {
    condition     = var.consumer_batch_size >= 1 && var.consumer_batch_size <= 100
    error_message = "consumer_batch_size takes 1 to 100: a batch must be done within the function's time."
  }
}

variable "consumer_maximum_concurrency" {
  description = "How many consumers run at most at once. All of them together ask upstream for this many times BOTTLES_REQUESTS_PER_SECOND."
  type        = number
  default     = 10
  nullable    = false

  validation {
    condition     = var.consumer_maximum_concurrency >= 2 && var.consumer_maximum_concurrency <= 1000
    error_message = "consumer_maximum_concurrency takes 2 to 1000, as Lambda does."
  }
}

variable "small_queue_arn" {
  description = "The ARN of the queue that feeds the consumer."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^arn:[a-z-]+:sqs:", var.small_queue_arn))
    error_message = "small_queue_arn takes the ARN of a queue."
  }
}

variable "maximum_retry_attempts" {
  description = "How often Lambda tries an asynchronous invocation again that failed: a plan, or an alarm for Slack."
  type        = number
  default     = 2
  nullable    = false

  validation {
    condition     = contains([0, 1, 2], var.maximum_retry_attempts)
    error_message = "maximum_retry_attempts takes 0, 1 or 2, as Lambda does."
  }
}

variable "log_retention_days" {
  description = "How long logs are kept, in days."
  type        = number
  default     = 14
  nullable    = false

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1827, 3653], var.log_retention_days)
    error_message = "log_retention_days takes one of the periods that CloudWatch Logs knows: 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1827, 3653."
  }
}

variable "queues_kms_key_arn" {
  description = "The ARN of the KMS key that encrypts the queue of failures; SQS's own keys where it is empty."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.queues_kms_key_arn == "" || can(regex("^arn:[a-z-]+:kms:", var.queues_kms_key_arn))
    error_message = "queues_kms_key_arn takes a key's ARN."
  }
}
