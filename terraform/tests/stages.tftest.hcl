# One stage's file, by -var-file: dev.tfvars, staging.tfvars or prod.tfvars; of
# the defaults, which are those of production, where there is none.

mock_provider "aws" {
  source = "./tests/mocks"
}

mock_provider "aws" {
  alias = "backup"
}

variables {
  slack_webhook_url            = ""
  notification_email_addresses = ["team@example.com"]
  lambda_orchestrator_zip_path = "main.tf"
  lambda_sync_zip_path         = "main.tf"
}

run "the_stage_is_whole" {
  command = apply

  variables {
    availability_zones = ["${var.aws_region}a", "${var.aws_region}b"]
  }

  assert {
    condition = {
      region   = var.aws_region
      schedule = var.schedule_expression
      } == {
      dev     = { region = "us-west-2", schedule = "cron(0 */6 * * ? *)" }
      staging = { region = "us-east-1", schedule = "cron(0 3 ? * SAT *)" }
      prod    = { region = "us-east-1", schedule = "cron(0 3 ? * SUN *)" }
    }[var.environment]
    error_message = "the stage runs elsewhere, or at another time"
  }

  # The alarm would fire before the next run could settle.
  assert {
    condition     = var.settled_run_max_age_hours > { dev = 6, staging = 168, prod = 168 }[var.environment]
    error_message = "the alarm about missing runs doesn't wait for the schedule"
  }

  assert {
    condition     = var.environment != "prod" || !var.s3_force_destroy
    error_message = "production's bottles can be destroyed"
  }
}
