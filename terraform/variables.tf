# All variables, by what they are about. docs/deploying.md says which of the
# earlier, Python system's are gone.

# What it is called, and where it runs.

variable "project_name" {
  description = "First part of all names; the environment is the second."
  type        = string
  default     = "homebrew-bottles-sync"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]*$", var.project_name)) && length("${var.project_name}-${var.environment}") <= 40
    error_message = "project_name takes small letters, digits and -; with the environment at most 40 characters, so that all names made of it fit."
  }
}

variable "environment" {
  description = "The stage: dev, staging or prod."
  type        = string
  default     = "prod"
  nullable    = false

  validation {
    condition     = contains(["dev", "staging", "prod"], var.environment)
    error_message = "environment takes dev, staging or prod."
  }
}

variable "aws_region" {
  description = "The region of everything but copies."
  type        = string
  default     = "us-east-1"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.aws_region))
    error_message = "aws_region takes a region's name, such as eu-west-1."
  }
}

variable "aws_account_id" {
  description = "The account that this may be applied to; any where it is empty."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.aws_account_id == "" || can(regex("^[0-9]{12}$", var.aws_account_id))
    error_message = "aws_account_id takes the twelve digits of an account."
  }
}

variable "backup_region" {
  description = "The region of copies: of the bucket (s3_enable_replication) and of the Slack secret (enable_cross_region_backup)."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.backup_region == "" || (can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.backup_region)) && var.backup_region != var.aws_region)
    error_message = "backup_region takes another region's name than aws_region."
  }
}

variable "tags" {
  description = "Further tags of all resources."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = length(setintersection(keys(var.tags), ["Project", "Environment", "Stack", "ManagedBy"])) == 0
    error_message = "tags can't have Project, Environment, Stack or ManagedBy: those are set already."
  }
}

# What is mirrored.

variable "target_platforms" {
  description = "The clients' platforms, as bottle tags; their fallbacks are mirrored with them. Empty for all. Not looked at where selection is set."
  type        = list(string)
  default     = ["arm64_tahoe", "arm64_sequoia", "arm64_sonoma"]
  nullable    = false

  validation {
    condition     = alltrue([for tag in var.target_platforms : can(regex("^[a-z0-9_]+$", tag)) && tag != "all"])
    error_message = "target_platforms takes the clients' bottle tags, such as arm64_tahoe, ventura or x86_64_linux. No client is on all; its bottles come with every platform."
  }
}

variable "selection" {
  description = "The whole selection as TOML, in place of target_platforms: formulae, exclude, tags, dependencies, sizes, portable Ruby, what is never retired, further taps, the layout. See \"A mirror of your own\" in the project's README.md."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = length(var.selection) <= 262144
    error_message = "selection takes a small TOML document, up to 256 KiB."
  }
}

variable "enable_flat_names" {
  description = "Whether bottles are also kept and served under flat names, for HOMEBREW_BOTTLE_DOMAIN (layout = \"flat\" in the selection) and for taps on plain file hosts. Stays true as long as there are such copies: they are retired with their bottles."
  type        = bool
  default     = false
  nullable    = false

  validation {
    condition     = var.enable_flat_names || !can(regex("(?m)^[ \\t]*layout[ \\t]*=[ \\t]*[\"']flat[\"']", var.selection))
    error_message = "enable_flat_names must be true where the selection says layout = \"flat\": settle may not write the copies otherwise, and all clients wait for them."
  }
}

variable "size_threshold_gb" {
  description = "Larger bottles, in GB of 1,000,000,000 bytes each, go to the large queue and to ECS; fractions are allowed. A batch of ten bottles of half a gigabyte takes a function about two minutes at the 70 MB/s or so that Lambda gives, of the fifteen that it has; far larger ones would be given back again and again."
  type        = number
  default     = 0.5
  nullable    = false

  validation {
    condition     = var.size_threshold_gb >= 0.001 && var.size_threshold_gb <= 5
    error_message = "size_threshold_gb takes 0.001 to 5 GB, of one bottle and no longer of a whole run: a function can't move more in its fifteen minutes."
  }
}

variable "max_concurrent_downloads" {
  description = "How many small bottles one function or task has on their way at once; of the large ones a quarter as many."
  type        = number
  default     = 16
  nullable    = false

  validation {
    condition     = var.max_concurrent_downloads >= 1 && var.max_concurrent_downloads <= 256 && floor(var.max_concurrent_downloads) == var.max_concurrent_downloads
    error_message = "max_concurrent_downloads takes a whole number of bottles, 1 to 256."
  }
}

variable "retry_attempts" {
  description = "How often a bottle that failed is tried again before it is dead-lettered."
  type        = number
  default     = 4
  nullable    = false

  validation {
    condition     = var.retry_attempts >= 0 && var.retry_attempts <= 10 && floor(var.retry_attempts) == var.retry_attempts
    error_message = "retry_attempts takes a whole number of tries, 0 to 10."
  }
}

variable "requests_per_second" {
  description = "The limit on requests to upstream of each process; there may be as many as lambda_sync_maximum_concurrency and ecs_max_tasks together."
  type        = number
  default     = 25
  nullable    = false

  validation {
    condition     = var.requests_per_second >= 1 && var.requests_per_second <= 1000 && floor(var.requests_per_second) == var.requests_per_second
    error_message = "requests_per_second takes a whole number of requests, 1 to 1000."
  }
}

variable "upstream_api_url" {
  description = "The folder of upstream's API files; https://formulae.brew.sh/api where it is empty."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.upstream_api_url == "" || can(regex("^https?://", var.upstream_api_url))
    error_message = "upstream_api_url takes an http or https URL."
  }
}

variable "upstream_rewrite" {
  description = "Where requests go instead, behind a pull-through proxy: FROM=TO pairs of origins."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for pair in var.upstream_rewrite : can(regex("^https?://[^=,]+=https?://[^=,]+$", pair))])
    error_message = "upstream_rewrite takes pairs such as https://ghcr.io=https://proxy.example.com."
  }
}

variable "upstream_allow_hosts" {
  description = "Further hosts that may be asked, over plain HTTP too: HOST or HOST:PORT."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for host in var.upstream_allow_hosts : can(regex("^[A-Za-z0-9.-]+(:[0-9]+)?$", host))])
    error_message = "upstream_allow_hosts takes hosts such as bottles.example.com or proxy.example.com:8443."
  }
}

variable "extra_environment" {
  description = "Further variables of all functions and tasks, such as HTTPS_PROXY."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = !anytrue([for name in keys(var.extra_environment) : startswith(name, "BOTTLES_") || (startswith(name, "AWS_") && name != "AWS_ENDPOINT_URL")])
    error_message = "extra_environment can't have names that begin with BOTTLES_, which have variables of their own here, or with AWS_, which Lambda keeps to itself."
  }
}

# Network of the ECS tasks; the functions need none.

variable "vpc_cidr" {
  description = "The VPC's addresses."
  type        = string
  default     = "10.0.0.0/16"
  nullable    = false

  validation {
    condition     = can(cidrhost(var.vpc_cidr, 0))
    error_message = "vpc_cidr takes a CIDR block, such as 10.0.0.0/16."
  }
}

variable "availability_zones" {
  description = "The zones, at least two; the region's first two where it is empty."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = length(var.availability_zones) != 1
    error_message = "availability_zones takes two or more, or none for the region's first two."
  }
}

variable "public_subnet_cidrs" {
  description = "The addresses of the public subnets, one for each zone."
  type        = list(string)
  default     = ["10.0.1.0/24", "10.0.2.0/24"]
  nullable    = false

  validation {
    condition     = alltrue([for cidr in var.public_subnet_cidrs : can(cidrhost(cidr, 0))])
    error_message = "public_subnet_cidrs takes CIDR blocks within vpc_cidr."
  }

  validation {
    condition     = length(var.public_subnet_cidrs) == (length(var.availability_zones) == 0 ? 2 : length(var.availability_zones))
    error_message = "public_subnet_cidrs takes as many blocks as there are zones."
  }
}

variable "private_subnet_cidrs" {
  description = "The addresses of the private subnets, one for each zone."
  type        = list(string)
  default     = ["10.0.10.0/24", "10.0.20.0/24"]
  nullable    = false

  validation {
    condition     = alltrue([for cidr in var.private_subnet_cidrs : can(cidrhost(cidr, 0))])
    error_message = "private_subnet_cidrs takes CIDR blocks within vpc_cidr."
  }

  validation {
    condition     = length(var.private_subnet_cidrs) == (length(var.availability_zones) == 0 ? 2 : length(var.availability_zones))
    error_message = "private_subnet_cidrs takes as many blocks as there are zones."
  }
}

variable "enable_nat_gateway" {
  description = "Whether tasks run in private subnets behind a NAT, which is paid for by the hour and by the gigabyte. Without, they run in the public ones with an address of their own, and nothing may connect to them."
  type        = bool
  default     = true
  nullable    = false
}

variable "nat_gateway_per_availability_zone" {
  description = "Whether each zone has a NAT of its own. With one for all, large bottles wait while its zone is down."
  type        = bool
  default     = false
  nullable    = false
}

variable "ecs_egress_ports" {
  description = "The TCP ports that tasks may connect to; further ones for a proxy of upstream_rewrite, upstream_allow_hosts or HTTPS_PROXY."
  type        = list(number)
  default     = [443]
  nullable    = false

  validation {
    condition     = contains(var.ecs_egress_ports, 443) && alltrue([for port in var.ecs_egress_ports : port >= 1 && port <= 65535])
    error_message = "ecs_egress_ports takes ports, 443 among them: AWS and upstream are reached by it."
  }
}

variable "interface_endpoints" {
  description = "AWS services that tasks reach by endpoints in the VPC, each paid for by the hour and zone: ecr.api, ecr.dkr, logs, sqs, secretsmanager. S3 has one always, and it is free."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = length(setsubtract(var.interface_endpoints, ["ecr.api", "ecr.dkr", "logs", "sqs", "secretsmanager"])) == 0
    error_message = "interface_endpoints takes ecr.api, ecr.dkr, logs, sqs and secretsmanager."
  }
}

variable "enable_flow_logs" {
  description = "Whether the VPC's connections are logged."
  type        = bool
  default     = false
  nullable    = false
}

# The bucket.

variable "s3_bucket_name" {
  description = "The bucket's name; PROJECT-ENVIRONMENT-ACCOUNT where it is empty."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.s3_bucket_name == "" || can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.s3_bucket_name))
    error_message = "s3_bucket_name takes 3 to 63 small letters, digits and -; no dots, with which S3's certificate does not fit its host name."
  }
}

variable "s3_force_destroy" {
  description = "Whether destroy may delete a bucket that has bottles in it."
  type        = bool
  default     = false
  nullable    = false
}

variable "s3_enable_versioning" {
  description = "Whether S3 keeps replaced and expired objects for a while."
  type        = bool
  default     = true
  nullable    = false
}

variable "s3_lifecycle_expiration_days" {
  description = "Days after which a bottle expires that upstream dropped and no published API file names, from when it was tagged. Others never do."
  type        = number
  default     = 90
  nullable    = false

  validation {
    condition     = var.s3_lifecycle_expiration_days >= 7 && var.s3_lifecycle_expiration_days <= 3650 && floor(var.s3_lifecycle_expiration_days) == var.s3_lifecycle_expiration_days
    error_message = "s3_lifecycle_expiration_days takes a whole number of days, 7 to 3650."
  }
}

variable "s3_noncurrent_version_expiration_days" {
  description = "Days that S3 keeps what was replaced or has expired."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.s3_noncurrent_version_expiration_days >= 1 && var.s3_noncurrent_version_expiration_days <= 3650 && floor(var.s3_noncurrent_version_expiration_days) == var.s3_noncurrent_version_expiration_days
    error_message = "s3_noncurrent_version_expiration_days takes a whole number of days, 1 to 3650."
  }
}

variable "s3_intelligent_tiering_days" {
  description = "Days after which what is below v2/ moves to S3 Intelligent-Tiering; 0 for never."
  type        = number
  default     = 0
  nullable    = false

  validation {
    condition     = var.s3_intelligent_tiering_days >= 0 && var.s3_intelligent_tiering_days <= 3650 && floor(var.s3_intelligent_tiering_days) == var.s3_intelligent_tiering_days
    error_message = "s3_intelligent_tiering_days takes a whole number of days, 0 to 3650."
  }
}

variable "s3_enable_access_logging" {
  description = "Whether S3 logs who reads the bucket."
  type        = bool
  default     = false
  nullable    = false
}

variable "s3_access_log_bucket" {
  description = "The bucket that the access log goes to."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = !var.s3_enable_access_logging || var.s3_access_log_bucket != ""
    error_message = "s3_access_log_bucket is needed where s3_enable_access_logging is true: a bucket that lets S3's log delivery write."
  }
}

variable "s3_kms_key_id" {
  description = "The KMS key of the bucket; S3's own keys where it is empty."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.s3_kms_key_id == "" || can(regex("^(arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/)?[0-9a-zA-Z-]+$", var.s3_kms_key_id))
    error_message = "s3_kms_key_id takes a key's ID or ARN; not an alias: policies name the key itself."
  }
}

variable "s3_enable_replication" {
  description = "Whether the bucket is copied to backup_region."
  type        = bool
  default     = false
  nullable    = false

  validation {
    condition     = !var.s3_enable_replication || var.backup_region != ""
    error_message = "s3_enable_replication needs backup_region."
  }
}

variable "s3_replica_kms_key_id" {
  description = "The KMS key of the copy, in backup_region. Needed where s3_kms_key_id is set."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.s3_replica_kms_key_id == "" || can(regex("^(arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/)?[0-9a-zA-Z-]+$", var.s3_replica_kms_key_id))
    error_message = "s3_replica_kms_key_id takes a key's ID or ARN; not an alias: policies name the key itself."
  }
}

# Queues.

variable "sqs_kms_key_id" {
  description = "The KMS key of the queues; SQS's own keys where it is empty."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.sqs_kms_key_id == "" || can(regex("^(arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/)?[0-9a-zA-Z-]+$", var.sqs_kms_key_id))
    error_message = "sqs_kms_key_id takes a key's ID or ARN; not an alias: policies name the key itself."
  }
}

variable "large_queue_visibility_seconds" {
  description = "How long a message of the large queue stays hidden unless its task extends it, in seconds."
  type        = number
  default     = 120
  nullable    = false

  validation {
    condition     = var.large_queue_visibility_seconds >= 30 && var.large_queue_visibility_seconds <= 43200 && floor(var.large_queue_visibility_seconds) == var.large_queue_visibility_seconds
    error_message = "large_queue_visibility_seconds takes a whole number of seconds, 30 to 43200."
  }
}

# Functions.

variable "lambda_orchestrator_zip_path" {
  description = "The package of the producer."
  type        = string
  default     = "../build/producer.zip"
  nullable    = false

  validation {
    condition     = var.lambda_orchestrator_zip_path != ""
    error_message = "lambda_orchestrator_zip_path takes the path that scripts/build-lambda-packages.sh printed: ../build/producer.zip."
  }
}

variable "lambda_sync_zip_path" {
  description = "The package of consumer-lambda."
  type        = string
  default     = "../build/consumer-lambda.zip"
  nullable    = false

  validation {
    condition     = var.lambda_sync_zip_path != ""
    error_message = "lambda_sync_zip_path takes the path that scripts/build-lambda-packages.sh printed: ../build/consumer-lambda.zip."
  }
}

variable "lambda_architecture" {
  description = "What the packages were built for: x86_64 or arm64."
  type        = string
  default     = "x86_64"
  nullable    = false

  validation {
    condition     = contains(["x86_64", "arm64"], var.lambda_architecture)
    error_message = "lambda_architecture takes x86_64 or arm64."
  }
}

variable "lambda_orchestrator_timeout" {
  description = "How long plan and settle may run, in seconds. A longer plan is gone on with by lambda_max_retry_attempts more."
  type        = number
  default     = 900
  nullable    = false

  validation {
    condition     = var.lambda_orchestrator_timeout >= 60 && var.lambda_orchestrator_timeout <= 900 && floor(var.lambda_orchestrator_timeout) == var.lambda_orchestrator_timeout
    error_message = "lambda_orchestrator_timeout takes a whole number of seconds, 60 to 900."
  }
}

variable "lambda_orchestrator_memory_size" {
  description = "The memory of plan and settle in MB. Beside the manifest, which they hold twice and which knows what is superseded too, they hold one API file at a time, of up to some 45 MB, and what a few sets of them need."
  type        = number
  default     = 1024
  nullable    = false

  validation {
    condition     = var.lambda_orchestrator_memory_size >= 256 && var.lambda_orchestrator_memory_size <= 10240 && floor(var.lambda_orchestrator_memory_size) == var.lambda_orchestrator_memory_size
    error_message = "lambda_orchestrator_memory_size takes a whole number of MB, 256 to 10240."
  }
}

variable "lambda_sync_timeout" {
  description = "How long consumer-lambda may take for a batch, in seconds."
  type        = number
  default     = 900
  nullable    = false

  validation {
    condition     = var.lambda_sync_timeout >= 60 && var.lambda_sync_timeout <= 900 && floor(var.lambda_sync_timeout) == var.lambda_sync_timeout
    error_message = "lambda_sync_timeout takes a whole number of seconds, 60 to 900."
  }
}

variable "lambda_sync_memory_size" {
  description = "The memory of consumer-lambda in MB; CPU, network and the bottles in hand follow it."
  type        = number
  default     = 1024
  nullable    = false

  validation {
    condition     = var.lambda_sync_memory_size >= 256 && var.lambda_sync_memory_size <= 10240 && floor(var.lambda_sync_memory_size) == var.lambda_sync_memory_size
    error_message = "lambda_sync_memory_size takes a whole number of MB, 256 to 10240."
  }
}

variable "lambda_sync_batch_size" {
  description = "How many bottles consumer-lambda is given at most at once."
  type        = number
  default     = 10
  nullable    = false

  validation {
    condition     = var.lambda_sync_batch_size >= 1 && var.lambda_sync_batch_size <= 100 && floor(var.lambda_sync_batch_size) == var.lambda_sync_batch_size
    error_message = "lambda_sync_batch_size takes a whole number of bottles, 1 to 100."
  }
}

variable "lambda_sync_maximum_concurrency" {
  description = "How many consumer-lambdas run at most at once."
  type        = number
  default     = 10
  nullable    = false

  validation {
    condition     = var.lambda_sync_maximum_concurrency >= 2 && var.lambda_sync_maximum_concurrency <= 1000 && floor(var.lambda_sync_maximum_concurrency) == var.lambda_sync_maximum_concurrency
    error_message = "lambda_sync_maximum_concurrency takes a whole number of functions, 2 to 1000."
  }
}

variable "lambda_max_retry_attempts" {
  description = "How often Lambda tries a plan again that failed."
  type        = number
  default     = 2
  nullable    = false

  validation {
    condition     = var.lambda_max_retry_attempts >= 0 && var.lambda_max_retry_attempts <= 2 && floor(var.lambda_max_retry_attempts) == var.lambda_max_retry_attempts
    error_message = "lambda_max_retry_attempts takes a whole number of tries, 0 to 2."
  }
}

# ECS.

variable "ecs_container_image" {
  description = "The image of consumer-ecs; scripts/deploy.sh builds and pushes one where it is empty."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.ecs_container_image == "" || can(regex("^[a-z0-9][a-zA-Z0-9._/:-]*[:@][a-zA-Z0-9._:-]+$", var.ecs_container_image))
    error_message = "ecs_container_image takes REPOSITORY:TAG or REPOSITORY@DIGEST."
  }
}

variable "ecs_cpu_architecture" {
  description = "What the image was built for: X86_64 or ARM64."
  type        = string
  default     = "X86_64"
  nullable    = false

  validation {
    condition     = contains(["X86_64", "ARM64"], var.ecs_cpu_architecture)
    error_message = "ecs_cpu_architecture takes X86_64 or ARM64."
  }
}

variable "ecs_task_cpu" {
  description = "CPU units of a task; 1024 are one vCPU."
  type        = number
  default     = 1024
  nullable    = false

  validation {
    condition     = contains([256, 512, 1024, 2048, 4096, 8192, 16384], var.ecs_task_cpu)
    error_message = "ecs_task_cpu takes one of Fargate's sizes: 256, 512, 1024, 2048, 4096, 8192, 16384."
  }
}

variable "ecs_task_memory" {
  description = "Memory of a task in MB; half of it is for bottles on their way."
  type        = number
  default     = 2048
  nullable    = false

  validation {
    condition     = var.ecs_task_memory >= 512 && var.ecs_task_memory <= 122880
    error_message = "ecs_task_memory takes what goes with ecs_task_cpu: with 1024 units 2048 to 8192 MB, in whole GB."
  }
}

variable "ecs_ephemeral_storage_size_gb" {
  description = "Disk of a task in GB. Bottles are streamed and don't touch it; 20 GB come with every task, and more is paid for."
  type        = number
  default     = 20
  nullable    = false

  validation {
    condition     = var.ecs_ephemeral_storage_size_gb >= 20 && var.ecs_ephemeral_storage_size_gb <= 200 && floor(var.ecs_ephemeral_storage_size_gb) == var.ecs_ephemeral_storage_size_gb
    error_message = "ecs_ephemeral_storage_size_gb takes a whole number of GB, 20 to 200."
  }
}

variable "ecs_stop_timeout" {
  description = "How long a task may take to stop, in seconds. It has ten less to end its transfers; the rest it gives back."
  type        = number
  default     = 120
  nullable    = false

  validation {
    condition     = var.ecs_stop_timeout >= 30 && var.ecs_stop_timeout <= 120 && floor(var.ecs_stop_timeout) == var.ecs_stop_timeout
    error_message = "ecs_stop_timeout takes a whole number of seconds, 30 to 120."
  }
}

variable "ecs_max_tasks" {
  description = "No more tasks than this."
  type        = number
  default     = 4
  nullable    = false

  validation {
    condition     = var.ecs_max_tasks >= 1 && var.ecs_max_tasks <= 100 && floor(var.ecs_max_tasks) == var.ecs_max_tasks
    error_message = "ecs_max_tasks takes a whole number of tasks, 1 to 100."
  }
}

variable "ecs_bottles_per_task" {
  description = "One task for so many large bottles that wait."
  type        = number
  default     = 25
  nullable    = false

  validation {
    condition     = var.ecs_bottles_per_task >= 1 && var.ecs_bottles_per_task <= 10000 && floor(var.ecs_bottles_per_task) == var.ecs_bottles_per_task
    error_message = "ecs_bottles_per_task takes a whole number of bottles, 1 to 10000."
  }
}

variable "ecs_enable_fargate_spot" {
  description = "Whether tasks may run on Fargate Spot, for about a third of the price."
  type        = bool
  default     = true
  nullable    = false
}

variable "ecs_fargate_spot_weight" {
  description = "The share of tasks on Fargate Spot, relative to ecs_fargate_weight."
  type        = number
  default     = 2
  nullable    = false

  validation {
    condition     = var.ecs_fargate_spot_weight >= 0 && var.ecs_fargate_spot_weight <= 1000 && floor(var.ecs_fargate_spot_weight) == var.ecs_fargate_spot_weight
    error_message = "ecs_fargate_spot_weight takes a whole number of shares, 0 to 1000."
  }
}

variable "ecs_fargate_weight" {
  description = "The share of tasks on Fargate."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = var.ecs_fargate_weight >= 0 && var.ecs_fargate_weight <= 1000 && floor(var.ecs_fargate_weight) == var.ecs_fargate_weight
    error_message = "ecs_fargate_weight takes a whole number of shares, 0 to 1000."
  }
}

variable "ecs_fargate_base_capacity" {
  description = "How many tasks run on Fargate before the weights count."
  type        = number
  default     = 0
  nullable    = false

  validation {
    condition     = var.ecs_fargate_base_capacity >= 0 && var.ecs_fargate_base_capacity <= 100 && floor(var.ecs_fargate_base_capacity) == var.ecs_fargate_base_capacity
    error_message = "ecs_fargate_base_capacity takes a whole number of tasks, 0 to 100."
  }
}

variable "ecs_enable_container_insights" {
  description = "Whether the cluster emits Container Insights, which are paid for."
  type        = bool
  default     = true
  nullable    = false
}

variable "aws_is_emulated" {
  description = "Whether this is an emulator of AWS, as in the project's tests. What emulators lack is left out then: Application Auto Scaling, so that tasks are added by plans and never taken away, and saved queries."
  type        = bool
  default     = false
  nullable    = false
}

# Schedules.

variable "schedule_expression" {
  description = "When to plan: cron(…) with six fields, or rate(…)."
  type        = string
  default     = "cron(0 3 ? * SUN *)"
  nullable    = false

  validation {
    condition     = can(regex("^(cron|rate)\\([^()]+\\)$", var.schedule_expression))
    error_message = "schedule_expression takes cron(0 3 ? * SUN *) or rate(6 hours)."
  }
}

variable "schedule_timezone" {
  description = "The time zone of schedule_expression."
  type        = string
  default     = "UTC"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z][A-Za-z0-9_+/-]*$", var.schedule_timezone))
    error_message = "schedule_timezone takes a name such as UTC or Europe/Berlin."
  }
}

variable "settle_schedule_expression" {
  description = "When to settle: rate(…) of some minutes."
  type        = string
  default     = "rate(5 minutes)"
  nullable    = false

  validation {
    condition     = can(regex("^rate\\([0-9]+ minutes?\\)$", var.settle_schedule_expression))
    error_message = "settle_schedule_expression takes rate(N minutes)."
  }
}

variable "eventbridge_rule_state" {
  description = "ENABLED, or DISABLED to plan by hand only."
  type        = string
  default     = "ENABLED"
  nullable    = false

  validation {
    condition     = contains(["ENABLED", "DISABLED"], var.eventbridge_rule_state)
    error_message = "eventbridge_rule_state takes ENABLED or DISABLED."
  }
}

variable "eventbridge_max_retry_attempts" {
  description = "How often the scheduler tries again to hand a plan to Lambda."
  type        = number
  default     = 3
  nullable    = false

  validation {
    condition     = var.eventbridge_max_retry_attempts >= 0 && var.eventbridge_max_retry_attempts <= 185 && floor(var.eventbridge_max_retry_attempts) == var.eventbridge_max_retry_attempts
    error_message = "eventbridge_max_retry_attempts takes a whole number of tries, 0 to 185."
  }
}

variable "eventbridge_max_event_age_seconds" {
  description = "For how long the scheduler tries, in seconds."
  type        = number
  default     = 3600
  nullable    = false

  validation {
    condition     = var.eventbridge_max_event_age_seconds >= 60 && var.eventbridge_max_event_age_seconds <= 86400 && floor(var.eventbridge_max_event_age_seconds) == var.eventbridge_max_event_age_seconds
    error_message = "eventbridge_max_event_age_seconds takes a whole number of seconds, 60 to 86400."
  }
}

# Who is told.

variable "enable_slack_notifications" {
  description = "Whether Slack is told of runs and alarms."
  type        = bool
  default     = false
  nullable    = false
}

variable "slack_webhook_url" {
  description = "The URL of Slack's incoming webhook, by the environment variable TF_VAR_slack_webhook_url or SLACK_WEBHOOK_URL of scripts/deploy.sh. It is written to Secrets Manager when slack_webhook_version is raised, and is in neither state nor plan."
  type        = string
  default     = ""
  ephemeral   = true
  sensitive   = true

  validation {
    condition     = var.slack_webhook_url == "" || can(regex("^https?://", var.slack_webhook_url))
    error_message = "slack_webhook_url takes the URL of an incoming webhook."
  }
}

variable "slack_webhook_version" {
  description = "Raise it by one to have slack_webhook_url written; 0 where the secret is written by hand."
  type        = number
  default     = 0
  nullable    = false

  validation {
    condition     = var.slack_webhook_version >= 0 && var.slack_webhook_version <= 1000000 && floor(var.slack_webhook_version) == var.slack_webhook_version
    error_message = "slack_webhook_version takes a whole number of writes, 0 to 1000000."
  }

  validation {
    condition     = var.slack_webhook_version == 0 || var.enable_slack_notifications
    error_message = "slack_webhook_version is set, and enable_slack_notifications is not: set both."
  }
}

variable "enable_sns_notifications" {
  description = "Whether notices of runs go to the topic as well, and so to its e-mail subscribers. Alarms go there always."
  type        = bool
  default     = false
  nullable    = false
}

variable "notification_email_addresses" {
  description = "Who gets the topic's alarms and notices by e-mail; each must confirm once."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for address in var.notification_email_addresses : can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", address))])
    error_message = "notification_email_addresses takes addresses such as team@example.com."
  }
}

variable "notifications_kms_key_id" {
  description = "The KMS key of the topic and the secret; one is made where it is empty. Its policy must let cloudwatch.amazonaws.com and budgets.amazonaws.com use it."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.notifications_kms_key_id == "" || can(regex("^(arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/)?[0-9a-zA-Z-]+$", var.notifications_kms_key_id))
    error_message = "notifications_kms_key_id takes a key's ID or ARN; not an alias: policies name the key itself."
  }
}

variable "secret_recovery_window_days" {
  description = "Days that the deleted Slack secret can be had back: 7 to 30, or 0."
  type        = number
  default     = 7
  nullable    = false

  validation {
    condition     = var.secret_recovery_window_days == 0 || (var.secret_recovery_window_days >= 7 && var.secret_recovery_window_days <= 30)
    error_message = "secret_recovery_window_days takes 7 to 30 days, or 0."
  }
}

variable "enable_cross_region_backup" {
  description = "Whether the Slack secret is copied to backup_region."
  type        = bool
  default     = false
  nullable    = false

  validation {
    condition     = !var.enable_cross_region_backup || var.backup_region != ""
    error_message = "enable_cross_region_backup needs backup_region."
  }
}

# Logs, alarms, costs.

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

variable "log_level" {
  description = "What is logged: ERROR, WARNING, INFO or DEBUG."
  type        = string
  default     = "INFO"
  nullable    = false

  validation {
    condition     = contains(["ERROR", "WARNING", "INFO", "DEBUG"], var.log_level)
    error_message = "log_level takes ERROR, WARNING, INFO or DEBUG."
  }
}

variable "enable_cloudwatch_alarms" {
  description = "Whether there are alarms."
  type        = bool
  default     = true
  nullable    = false
}

variable "oldest_message_hours" {
  description = "How long a bottle may wait on a queue before an alarm, in hours."
  type        = number
  default     = 12
  nullable    = false

  validation {
    condition     = var.oldest_message_hours > 0 && var.oldest_message_hours <= 72
    error_message = "oldest_message_hours takes up to 72 hours."
  }
}

variable "settled_run_max_age_hours" {
  description = "How long ago the last run may have settled before an alarm, in hours: the schedule's longest interval, and a day for the run."
  type        = number
  default     = 192
  nullable    = false

  validation {
    condition     = var.settled_run_max_age_hours >= 1
    error_message = "settled_run_max_age_hours takes at least an hour."
  }
}

variable "upstream_failures_per_quarter_hour" {
  description = "How many failing answers of upstream in fifteen minutes raise an alarm."
  type        = number
  default     = 200
  nullable    = false

  validation {
    condition     = var.upstream_failures_per_quarter_hour >= 1 && var.upstream_failures_per_quarter_hour <= 1000000 && floor(var.upstream_failures_per_quarter_hour) == var.upstream_failures_per_quarter_hour
    error_message = "upstream_failures_per_quarter_hour takes a whole number of answers, 1 to 1000000."
  }
}

variable "monthly_budget_usd" {
  description = "What a month may cost, in US dollars, before an alarm; 0 for none."
  type        = number
  default     = 100
  nullable    = false

  validation {
    condition     = var.monthly_budget_usd >= 0
    error_message = "monthly_budget_usd takes dollars; 0 for none."
  }
}

variable "budget_scope" {
  description = "What the budget counts: account for all of it, or stack for what has the tag Stack, once that is activated as a cost allocation tag."
  type        = string
  default     = "account"
  nullable    = false

  validation {
    condition     = contains(["account", "stack"], var.budget_scope)
    error_message = "budget_scope takes account or stack."
  }
}

# How clients read it.

variable "enable_cdn" {
  description = "Whether CloudFront serves the mirror."
  type        = bool
  default     = false
  nullable    = false
}

variable "cdn_aliases" {
  description = "Host names of the CDN, with cdn_acm_certificate_arn."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = (length(var.cdn_aliases) > 0) == (var.cdn_acm_certificate_arn != "")
    error_message = "cdn_aliases and cdn_acm_certificate_arn go together: set both, or neither."
  }
}

variable "cdn_acm_certificate_arn" {
  description = "The certificate of cdn_aliases, in us-east-1."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.cdn_acm_certificate_arn == "" || can(regex("^arn:[a-z-]+:acm:us-east-1:", var.cdn_acm_certificate_arn))
    error_message = "cdn_acm_certificate_arn takes the ARN of a certificate in us-east-1, where CloudFront looks for it."
  }
}

variable "cdn_price_class" {
  description = "Where CloudFront serves from: PriceClass_100, PriceClass_200 or PriceClass_All."
  type        = string
  default     = "PriceClass_100"
  nullable    = false

  validation {
    condition     = contains(["PriceClass_100", "PriceClass_200", "PriceClass_All"], var.cdn_price_class)
    error_message = "cdn_price_class takes PriceClass_100, PriceClass_200 or PriceClass_All."
  }
}

variable "cdn_web_acl_arn" {
  description = "A web ACL that says who may read; everybody who knows the URL where it is empty."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.cdn_web_acl_arn == "" || can(regex("^arn:[a-z-]+:wafv2:us-east-1:[0-9]{12}:global/webacl/", var.cdn_web_acl_arn))
    error_message = "cdn_web_acl_arn takes the ARN of a global web ACL (WAFv2)."
  }
}

variable "reader_vpc_endpoint_ids" {
  description = "S3 endpoints of VPCs whose machines may read the mirror without credentials."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for id in var.reader_vpc_endpoint_ids : can(regex("^vpce-[0-9a-f]+$", id))])
    error_message = "reader_vpc_endpoint_ids takes IDs such as vpce-0123456789abcdef0."
  }

  validation {
    condition     = length(var.reader_vpc_endpoint_ids) == 0 || var.s3_kms_key_id == ""
    error_message = "reader_vpc_endpoint_ids can't go with s3_kms_key_id: S3 decrypts with a KMS key for signed requests only, and brew's are not."
  }
}
