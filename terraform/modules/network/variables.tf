variable "name" {
  description = "Prefix of all names, such as homebrew-bottles-sync-prod: 2 to 40 lower-case letters, digits and hyphens."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,39}$", var.name))
    error_message = "name must be 2 to 40 lower-case letters, digits and hyphens, and begin with a letter or digit: choose a shorter or plainer name."
  }
}

variable "context" {
  description = "Where this runs: the partition (such as aws), the region (such as eu-central-1) and the 12 digits of the account."
  type = object({
    partition  = string
    region     = string
    account_id = string
  })
  nullable = false

  validation {
    condition     = can(regex("^aws(-[a-z]+)*$", var.context.partition))
    error_message = "context.partition must be a partition's name, such as aws or aws-us-gov: pass that of the aws_partition data source."
  }

  validation {
    condition     = can(regex("^[a-z]{2,}(-[a-z]+)+-[0-9]+$", var.context.region))
    error_message = "context.region must be a region's name, such as eu-central-1: pass that of the aws_region data source."
  }

  validation {
    condition     = can(regex("^[0-9]{12}$", var.context.account_id))
    error_message = "context.account_id must be the 12 digits of an account: pass it as a string, so that leading zeros stay."
  }
}

variable "vpc_cidr" {
  description = "The VPC's IPv4 range in CIDR notation, from /16 to /28."
  type        = string
  default     = "10.0.0.0/16"
  nullable    = false

  # cidrhost's first address equals what was given only where no host bits are set; the pattern keeps IPv6 out.
  validation {
    condition = (
      can(regex("^[0-9.]+/(1[6-9]|2[0-8])$", var.vpc_cidr)) &&
      try(cidrhost(var.vpc_cidr, 0) == split("/", var.vpc_cidr)[0], false)
    )
    error_message = "vpc_cidr must be an IPv4 range from /16 to /28 that begins at its network address, such as 10.0.0.0/16."
  }
}

variable "availability_zones" {
  description = "Names of the availability zones to use, two or more, all different and of the region in context, such as [\"eu-central-1a\", \"eu-central-1b\"]. The first one holds the NAT gateway where nat is single."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.availability_zones) >= 2
    error_message = "availability_zones must name at least two zones: with one, an outage of that zone stops the mirror's large bottles."
  }

  validation {
    condition     = length(distinct(var.availability_zones)) == length(var.availability_zones)
    error_message = "availability_zones names a zone twice: name each zone once."
  }

  validation {
    condition     = alltrue([for zone in var.availability_zones : can(regex("^${var.context.region}[a-z]$", zone))])
    error_message = "availability_zones must be zones of context.region, named as the region and one letter, such as ${var.context.region}a."
  }
}

variable "public_subnet_cidrs" {
  description = "IPv4 ranges of the public subnets in CIDR notation, from /16 to /28, within vpc_cidr: one for each availability zone, in the same order."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.public_subnet_cidrs) == length(var.availability_zones)
    error_message = "public_subnet_cidrs must hold exactly one range for each of availability_zones: add or remove ranges."
  }

  validation {
    condition = alltrue([
      for cidr in var.public_subnet_cidrs :
      can(regex("^[0-9.]+/(1[6-9]|2[0-8])$", cidr)) && try(cidrhost(cidr, 0) == split("/", cidr)[0], false)
    ])
    error_message = "public_subnet_cidrs must be IPv4 ranges from /16 to /28 that begin at their network address, such as 10.0.0.0/24."
  }

  # A range lies within another if it is no wider and, cut to the other's width, begins where the other begins.
  # What can't be computed is left to the validation of the form.
  validation {
    condition = alltrue([
      for cidr in var.public_subnet_cidrs : try(
        tonumber(split("/", cidr)[1]) >= tonumber(split("/", var.vpc_cidr)[1]) &&
        cidrhost("${split("/", cidr)[0]}/${split("/", var.vpc_cidr)[1]}", 0) == cidrhost(var.vpc_cidr, 0),
        true
      )
    ])
    error_message = "public_subnet_cidrs must lie within vpc_cidr: move the ranges, or widen vpc_cidr."
  }
}

variable "private_subnet_cidrs" {
  description = "IPv4 ranges of the private subnets in CIDR notation, from /16 to /28, within vpc_cidr and apart from the public ones: one for each availability zone, in the same order."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.private_subnet_cidrs) == length(var.availability_zones)
    error_message = "private_subnet_cidrs must hold exactly one range for each of availability_zones: add or remove ranges."
  }

  validation {
    condition = alltrue([
      for cidr in var.private_subnet_cidrs :
      can(regex("^[0-9.]+/(1[6-9]|2[0-8])$", cidr)) && try(cidrhost(cidr, 0) == split("/", cidr)[0], false)
    ])
    error_message = "private_subnet_cidrs must be IPv4 ranges from /16 to /28 that begin at their network address, such as 10.0.128.0/24."
  }

  validation {
    condition = alltrue([
      for cidr in var.private_subnet_cidrs : try(
        tonumber(split("/", cidr)[1]) >= tonumber(split("/", var.vpc_cidr)[1]) &&
        cidrhost("${split("/", cidr)[0]}/${split("/", var.vpc_cidr)[1]}", 0) == cidrhost(var.vpc_cidr, 0),
        true
      )
    ])
    error_message = "private_subnet_cidrs must lie within vpc_cidr: move the ranges, or widen vpc_cidr."
  }

  # Two ranges overlap if both begin at the same address once cut to the width of the wider one.
  validation {
    condition = alltrue(flatten([
      for i, one in concat(var.public_subnet_cidrs, var.private_subnet_cidrs) : [
        for j, other in concat(var.public_subnet_cidrs, var.private_subnet_cidrs) : try(
          cidrhost("${split("/", one)[0]}/${min(split("/", one)[1], split("/", other)[1])}", 0) !=
          cidrhost("${split("/", other)[0]}/${min(split("/", one)[1], split("/", other)[1])}", 0),
          true
        ) if i < j
      ]
    ]))
    error_message = "Two of public_subnet_cidrs and private_subnet_cidrs overlap: give every subnet a range of its own."
  }
}

variable "nat" {
  description = "How tasks reach the internet: none (from the public subnets, with a public address each), single (one NAT gateway, in the first zone) or per-zone (a NAT gateway in each zone)."
  type        = string
  default     = "none"
  nullable    = false

  validation {
    condition     = contains(["none", "single", "per-zone"], var.nat)
    error_message = "nat must be none, single or per-zone."
  }
}

variable "interface_endpoints" {
  description = "Services that get an interface endpoint in the private subnets: any of ecr.api, ecr.dkr, logs, sqs and secretsmanager."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition = alltrue([
      for service in var.interface_endpoints :
      contains(["ecr.api", "ecr.dkr", "logs", "sqs", "secretsmanager"], service)
    ])
    error_message = "interface_endpoints may hold ecr.api, ecr.dkr, logs, sqs and secretsmanager only: S3 always has its gateway endpoint, and tasks ask for nothing else."
  }
}

variable "s3_bucket_arns" {
  description = "ARNs of the buckets that may be reached through the S3 endpoint, one or more: the mirror's bucket, and any bucket of the same region that tasks read."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.s3_bucket_arns) > 0
    error_message = "s3_bucket_arns must name the mirror's bucket: without it the tasks can't store a bottle."
  }

  validation {
    condition = alltrue([
      for arn in var.s3_bucket_arns :
      can(regex("^arn:aws(-[a-z]+)*:s3:::[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", arn))
    ])
    error_message = "s3_bucket_arns must be ARNs of whole buckets, such as arn:aws:s3:::team-bottles: without a key, a slash or a wildcard."
  }
}

variable "enable_flow_logs" {
  description = "Whether the VPC's accepted and refused connections are recorded in CloudWatch Logs, which bills them by the GB."
  type        = bool
  default     = false
  nullable    = false

  # A bool has two values and both are fine: there is nothing more to check than its type.
}

variable "flow_log_retention_days" {
  description = "How many days flow logs are kept; one of the numbers that CloudWatch Logs knows."
  type        = number
  default     = 30
  nullable    = false

  # https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html
  validation {
    condition = contains(
      [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653],
      var.flow_log_retention_days
    )
    error_message = "flow_log_retention_days must be one of the retentions of CloudWatch Logs: 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653."
  }
}

variable "task_egress_ports" {
  description = "TCP ports that tasks may connect to, anywhere: 443, and that of a proxy of upstream where there is one."
  type        = list(number)
  default     = [443]
  nullable    = false

  validation {
    condition     = contains(var.task_egress_ports, 443) && alltrue([for port in var.task_egress_ports : port >= 1 && port <= 65535])
    error_message = "task_egress_ports takes ports, 443 among them: AWS and upstream are reached by it."
  }
}
