terraform {
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
      # The region of the replica; the main region's provider where there is none.
      configuration_aliases = [aws.backup]
    }
  }
}
