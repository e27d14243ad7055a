variable "name" {
  description = "Prefix of all names, such as homebrew-bottles-sync-prod."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,39}$", var.name))
    error_message = "name takes 2 to 40 small letters, digits and -, and does not begin with -."
  }
}

variable "bucket_name" {
  description = "The bucket's name; bucket names are global to AWS."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.bucket_name))
    error_message = "bucket_name takes 3 to 63 small letters, digits and -, and begins and ends with a letter or digit; no dots, with which S3's certificate does not fit its host name."
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

variable "force_destroy" {
  description = "Whether `terraform destroy` may delete a bucket that has bottles in it. AWS refuses to otherwise."
  type        = bool
  default     = false
  nullable    = false
}

variable "enable_versioning" {
  description = "Whether S3 keeps replaced and expired objects for a while."
  type        = bool
  default     = true
  nullable    = false
}

variable "superseded_expiration_days" {
  description = "Days that a bottle which upstream dropped stays, from when it was tagged superseded. The producer is told the same (BOTTLES_EXPIRE_AFTER)."
  type        = number
  default     = 90
  nullable    = false

  validation {
    condition     = var.superseded_expiration_days >= 7 && floor(var.superseded_expiration_days) == var.superseded_expiration_days
    error_message = "superseded_expiration_days takes whole days, at least 7: a bottle that is dropped by mistake must be noticed in time."
  }
}

variable "noncurrent_version_expiration_days" {
  description = "Days that S3 keeps what was replaced or has expired, before it is gone for good."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.noncurrent_version_expiration_days >= 1 && floor(var.noncurrent_version_expiration_days) == var.noncurrent_version_expiration_days
    error_message = "noncurrent_version_expiration_days takes whole days, at least 1."
  }
}

variable "intelligent_tiering_after_days" {
  description = "Days after which what is below v2/ moves to S3's Intelligent-Tiering, which is cheaper for what nobody reads; 0 for never."
  type        = number
  default     = 0
  nullable    = false

  validation {
    condition     = var.intelligent_tiering_after_days >= 0 && floor(var.intelligent_tiering_after_days) == var.intelligent_tiering_after_days
    error_message = "intelligent_tiering_after_days takes whole days; 0 for never."
  }
}

variable "kms_key_arn" {
  description = "The ARN of the KMS key that encrypts the bucket; S3's own keys (SSE-S3) where it is empty."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.kms_key_arn == "" || can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/.+$", var.kms_key_arn))
    error_message = "kms_key_arn takes a key's ARN, arn:aws:kms:REGION:ACCOUNT:key/ID; not an alias."
  }
}

variable "access_log_bucket" {
  description = "The bucket that S3's access log goes to; no log is kept where it is empty."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.access_log_bucket == "" || can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.access_log_bucket))
    error_message = "access_log_bucket takes a bucket's name."
  }

  validation {
    condition     = var.access_log_bucket != var.bucket_name
    error_message = "access_log_bucket must be another bucket: one that logs into itself grows for ever."
  }
}

variable "enable_replication" {
  description = "Whether the mirror is copied to a second bucket, in the region of the provider aws.backup."
  type        = bool
  default     = false
  nullable    = false

  validation {
    condition     = !var.enable_replication || var.enable_versioning
    error_message = "enable_replication needs enable_versioning: S3 replicates versions."
  }
}

variable "replica_kms_key_arn" {
  description = "The ARN of the KMS key of the replica's region. Needed where the bucket has a key of its own and is replicated."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.replica_kms_key_arn == "" || can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/.+$", var.replica_kms_key_arn))
    error_message = "replica_kms_key_arn takes a key's ARN, arn:aws:kms:REGION:ACCOUNT:key/ID; not an alias."
  }

  validation {
    condition     = !var.enable_replication || (var.kms_key_arn == "") == (var.replica_kms_key_arn == "")
    error_message = "kms_key_arn and replica_kms_key_arn go together where the bucket is replicated: a key belongs to one region."
  }
}

variable "enable_flat_names" {
  description = "Whether clients may read copies of bottles under flat names too, at the bucket's root and below taps/."
  type        = bool
  default     = false
  nullable    = false
}

variable "enable_cdn" {
  description = "Whether the CloudFront distribution of cdn_distribution_arn may read what is for clients."
  type        = bool
  default     = false
  nullable    = false
}

variable "cdn_distribution_arn" {
  description = "The ARN of the distribution that may read what is for clients; looked at where enable_cdn is true."
  type        = string
  default     = ""
  nullable    = false
}

variable "reader_vpc_endpoint_ids" {
  description = "VPC endpoints of S3 through which anybody may read what is for clients, without credentials."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for id in var.reader_vpc_endpoint_ids : can(regex("^vpce-[0-9a-f]+$", id))])
    error_message = "reader_vpc_endpoint_ids takes IDs such as vpce-0123456789abcdef0."
  }

  validation {
    condition     = length(var.reader_vpc_endpoint_ids) == 0 || var.kms_key_arn == ""
    error_message = "reader_vpc_endpoint_ids can't go with kms_key_arn: S3 decrypts with a KMS key for signed requests only, and brew's are not."
  }
}
