terraform {
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }

  # Which bucket and key: scripts/deploy.sh says it.
  backend "s3" {}
}

provider "aws" {
  region              = var.aws_region
  allowed_account_ids = var.aws_account_id == "" ? null : [var.aws_account_id]

  default_tags {
    tags = local.tags
  }
}

# The region of copies: of the bucket, where it is replicated.
provider "aws" {
  alias               = "backup"
  region              = var.backup_region == "" ? var.aws_region : var.backup_region
  allowed_account_ids = var.aws_account_id == "" ? null : [var.aws_account_id]

  default_tags {
    tags = local.tags
  }
}
