variable "name" {
  description = "Prefix of all names, such as homebrew-bottles-sync-prod: 2 to 40 lower-case letters, digits and hyphens. Names of CloudFront's policies and functions are the account's, not a region's: no two deployments of one account may share it."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,39}$", var.name))
    error_message = "name must be 2 to 40 lower-case letters, digits and hyphens, and begin with a letter or digit: choose a shorter or plainer name."
  }
}

variable "bucket_regional_domain_name" {
  description = "Regional domain name of the mirror's bucket, such as team-bottles.s3.eu-central-1.amazonaws.com."
  type        = string
  nullable    = false

  # By the name without a region, S3 may answer with a redirect while a bucket is new, or with 400:
  # https://docs.aws.amazon.com/AmazonS3/latest/API/UsingRouting.html
  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]\\.s3\\.[a-z]{2,}(-[a-z]+)+-[0-9]+\\.amazonaws\\.com$", var.bucket_regional_domain_name))
    error_message = "bucket_regional_domain_name must be BUCKET.s3.REGION.amazonaws.com: pass the bucket's attribute bucket_regional_domain_name, without https:// and not the name without a region."
  }
}

variable "enable_flat_names" {
  description = "Whether copies of bottles under flat names are served too: those at the bucket's root, with their image indexes, and what is below taps/."
  type        = bool
  default     = false
  nullable    = false
}

variable "comment" {
  description = "What the console shows for the distribution, at most 128 characters."
  type        = string
  default     = "Mirror of Homebrew's bottles"
  nullable    = false

  validation {
    condition     = length(var.comment) <= 128
    error_message = "comment must be at most 128 characters long: shorten it."
  }
}

variable "price_class" {
  description = "Which edge locations serve: PriceClass_100 (North America, Europe and Israel), PriceClass_200 (more of them) or PriceClass_All."
  type        = string
  default     = "PriceClass_100"
  nullable    = false

  validation {
    condition     = contains(["PriceClass_100", "PriceClass_200", "PriceClass_All"], var.price_class)
    error_message = "price_class must be PriceClass_100, PriceClass_200 or PriceClass_All."
  }
}

variable "aliases" {
  description = "Host names of your own under which the mirror is served, such as [\"bottles.example.com\"]; the first one makes the url. Their DNS records are not made here."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition = alltrue([
      for alias in var.aliases : can(regex("^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]$", alias))
    ])
    error_message = "aliases must be host names in lower case, such as bottles.example.com: without https://, a path or a wildcard."
  }

  validation {
    condition     = length(distinct(var.aliases)) == length(var.aliases)
    error_message = "aliases names a host twice: name each once."
  }
}

variable "acm_certificate_arn" {
  description = "ARN of the certificate, in us-east-1, that covers all aliases; null without aliases."
  type        = string
  default     = null

  # CloudFront takes certificates of us-east-1 only:
  # https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/cnames-and-https-requirements.html
  validation {
    condition     = var.acm_certificate_arn == null ? true : can(regex("^arn:aws:acm:us-east-1:[0-9]{12}:certificate/[0-9a-z-]+$", var.acm_certificate_arn))
    error_message = "acm_certificate_arn must be the ARN of a certificate in us-east-1, such as arn:aws:acm:us-east-1:123456789012:certificate/…: CloudFront takes none of another region. Request or import it there."
  }

  validation {
    condition     = (var.acm_certificate_arn != null) == (length(var.aliases) > 0)
    error_message = "aliases and acm_certificate_arn go together: give both, or neither for the distribution's own cloudfront.net name."
  }
}

variable "web_acl_arn" {
  description = "ARN of the WAFv2 web ACL of scope CLOUDFRONT that decides who may read; null lets everyone read who knows the URL."
  type        = string
  default     = null

  # https://docs.aws.amazon.com/waf/latest/developerguide/how-aws-waf-works-resources.html
  validation {
    condition     = var.web_acl_arn == null ? true : can(regex("^arn:aws:wafv2:us-east-1:[0-9]{12}:global/webacl/[^/]+/[0-9a-f-]+$", var.web_acl_arn))
    error_message = "web_acl_arn must be the ARN of a WAFv2 web ACL of scope CLOUDFRONT, which is in us-east-1, such as arn:aws:wafv2:us-east-1:123456789012:global/webacl/NAME/ID: a regional one can't guard a distribution."
  }
}

variable "short_ttl_seconds" {
  description = "How long what may change (API files, image indexes, flat names) is served from the edge before S3 is asked again; whole seconds from 1 to 3600."
  type        = number
  default     = 60
  nullable    = false

  # CloudFront keeps no compressed copy of what has a minimum of 0:
  # https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/ServingCompressedFiles.html
  validation {
    condition     = floor(var.short_ttl_seconds) == var.short_ttl_seconds && var.short_ttl_seconds >= 1 && var.short_ttl_seconds <= 3600
    error_message = "short_ttl_seconds must be whole seconds from 1 to 3600: with 0 API files would be served uncompressed, and beyond an hour clients would miss new bottles."
  }
}

variable "access_log_bucket_domain_name" {
  description = "Domain name of the bucket that takes access logs, such as team-logs.s3.amazonaws.com; it must have ACLs enabled. Null keeps no logs."
  type        = string
  default     = null

  validation {
    condition     = var.access_log_bucket_domain_name == null ? true : can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]\\.s3(\\.[a-z]{2,}(-[a-z]+)+-[0-9]+)?\\.amazonaws\\.com$", var.access_log_bucket_domain_name))
    error_message = "access_log_bucket_domain_name must be a bucket's domain name, such as team-logs.s3.amazonaws.com: not its bare name or ARN."
  }
}
