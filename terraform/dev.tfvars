# A small stage to try things on: every six hours, few logs, nothing that is paid
# for while it rests. What is one account's own goes into dev.local.tfvars.

environment = "dev"
aws_region  = "us-west-2"

# One formula and what it needs is enough to see everything work.
selection = <<-TOML
  formulae = ["wget", "jq"]
  tags = ["arm64_tahoe", "x86_64_linux"]
  dependencies = true
TOML

# Six hours, and as much again for the run.
schedule_expression       = "cron(0 */6 * * ? *)"
settled_run_max_age_hours = 12

# Tasks get a public address instead of a NAT.
enable_nat_gateway = false

size_threshold_gb               = 0.1
lambda_sync_memory_size         = 512
lambda_sync_maximum_concurrency = 4
ecs_task_cpu                    = 512
ecs_task_memory                 = 1024
ecs_max_tasks                   = 2
ecs_enable_container_insights   = false

s3_force_destroy                      = true
s3_noncurrent_version_expiration_days = 7
s3_lifecycle_expiration_days          = 14
secret_recovery_window_days           = 0
log_retention_days                    = 7
log_level                             = "DEBUG"
monthly_budget_usd                    = 20
