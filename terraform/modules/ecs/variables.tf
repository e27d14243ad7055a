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

variable "container_image" {
  description = "The service's image, REPOSITORY:TAG; the tag latest of this module's repository where it is empty."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.container_image == "" || can(regex("^[a-z0-9][a-zA-Z0-9._/:-]*[:@][a-zA-Z0-9._:-]+$", var.container_image))
    error_message = "container_image takes REPOSITORY:TAG or REPOSITORY@DIGEST."
  }
}

variable "cpu_architecture" {
  description = "What the image was built for: X86_64 or ARM64."
  type        = string
  default     = "X86_64"
  nullable    = false

  validation {
    condition     = contains(["X86_64", "ARM64"], var.cpu_architecture)
    error_message = "cpu_architecture takes X86_64 or ARM64, whichever the image was built for."
  }
}

variable "task_cpu" {
  description = "CPU units of a task; 1024 are one vCPU."
  type        = number
  default     = 1024
  nullable    = false

  validation {
    condition     = contains([256, 512, 1024, 2048, 4096, 8192, 16384], var.task_cpu)
    error_message = "task_cpu takes one of Fargate's sizes: 256, 512, 1024, 2048, 4096, 8192, 16384."
  }
}

variable "task_memory" {
  description = "Memory of a task in MB."
  type        = number
  default     = 2048
  nullable    = false

  # https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-tasks-services.html
  validation {
    condition = contains(lookup({
      "256"   = [512, 1024, 2048]
      "512"   = range(1024, 4097, 1024)
      "1024"  = range(2048, 8193, 1024)
      "2048"  = range(4096, 16385, 1024)
      "4096"  = range(8192, 30721, 1024)
      "8192"  = range(16384, 61441, 4096)
      "16384" = range(32768, 122881, 8192)
    }, tostring(var.task_cpu), []), var.task_memory)
    error_message = "task_memory does not go with task_cpu: Fargate takes 512 to 2048 MB with 256 units, 1 to 4 GB with 512, 2 to 8 GB with 1024, 4 to 16 GB with 2048, 8 to 30 GB with 4096, 16 to 60 GB with 8192 and 32 to 120 GB with 16384, in whole GB."
  }
}

variable "ephemeral_storage_size_gb" {
  description = "Disk of a task in GB. Bottles are streamed and don't touch it; 20 GB come with every task, and more is paid for."
  type        = number
  default     = 20
  nullable    = false

  validation {
    condition     = var.ephemeral_storage_size_gb >= 20 && var.ephemeral_storage_size_gb <= 200
    error_message = "ephemeral_storage_size_gb takes 20 to 200 GB, as Fargate does."
  }
}

variable "stop_timeout_seconds" {
  description = "How long a container may take to stop, in seconds; longer than BOTTLES_STOP_TIMEOUT."
  type        = number
  default     = 120
  nullable    = false

  validation {
    condition     = var.stop_timeout_seconds >= 30 && var.stop_timeout_seconds <= 120
    error_message = "stop_timeout_seconds takes 30 to 120 seconds; Fargate kills after 120."
  }
}

variable "environment" {
  description = "The variables of consumer-ecs."
  type        = map(string)
  nullable    = false

  validation {
    condition = alltrue([
      for name in keys(var.environment) :
      contains(try(jsondecode(file("${path.module}/../../contract.json")).variables[name], []), "consumer-ecs") if startswith(name, "BOTTLES_")
    ])
    error_message = "environment has a variable that begins with BOTTLES_ and is none that consumer-ecs reads (see contract.json): it would refuse to start."
  }
}

variable "task_role_arn" {
  description = "The role of the program in the container."
  type        = string
  nullable    = false

  validation {
    condition     = var.task_role_arn != ""
    error_message = "task_role_arn takes a role's ARN."
  }
}

variable "execution_role_arn" {
  description = "The role that pulls the image and writes logs."
  type        = string
  nullable    = false

  validation {
    condition     = var.execution_role_arn != ""
    error_message = "execution_role_arn takes a role's ARN."
  }
}

variable "subnet_ids" {
  description = "The subnets that tasks run in."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.subnet_ids) > 0
    error_message = "subnet_ids takes at least one subnet."
  }
}

variable "security_group_ids" {
  description = "The security groups of the tasks."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.security_group_ids) > 0
    error_message = "security_group_ids takes at least one: without, tasks get the VPC's default one, which lets nothing out."
  }
}

variable "assign_public_ip" {
  description = "Whether tasks get a public address; they need one where their subnets have no NAT."
  type        = bool
  nullable    = false
}

variable "fargate_weight" {
  description = "The share of tasks on Fargate, relative to fargate_spot_weight."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = var.fargate_weight >= 0 && var.fargate_weight <= 1000
    error_message = "fargate_weight takes 0 to 1000."
  }

  validation {
    condition     = var.fargate_weight > 0 || var.fargate_base > 0 || (var.enable_spot && var.fargate_spot_weight > 0)
    error_message = "fargate_weight may be 0 only where Spot has a weight or Fargate a base: nothing could run otherwise."
  }
}

variable "fargate_base" {
  description = "How many tasks run on Fargate before the weights count."
  type        = number
  default     = 0
  nullable    = false

  validation {
    condition     = var.fargate_base >= 0 && var.fargate_base <= 100
    error_message = "fargate_base takes 0 to 100 tasks."
  }
}

variable "enable_spot" {
  description = "Whether tasks may run on Fargate Spot, for about a third of the price. An interrupted one gives its bottles back."
  type        = bool
  default     = true
  nullable    = false
}

variable "fargate_spot_weight" {
  description = "The share of tasks on Fargate Spot, relative to fargate_weight."
  type        = number
  default     = 2
  nullable    = false

  validation {
    condition     = var.fargate_spot_weight >= 0 && var.fargate_spot_weight <= 1000
    error_message = "fargate_spot_weight takes 0 to 1000."
  }
}

variable "enable_container_insights" {
  description = "Whether the cluster emits Container Insights: the dashboard's desired tasks come from there."
  type        = bool
  default     = true
  nullable    = false
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

variable "force_delete_repository" {
  description = "Whether `terraform destroy` may delete the repository with images in it. They can be built again."
  type        = bool
  default     = true
  nullable    = false
}
