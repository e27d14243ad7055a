# The mirror that machines depend on.

environment = "prod"
aws_region  = "us-east-1"

target_platforms = ["arm64_tahoe", "arm64_sequoia", "arm64_sonoma", "x86_64_linux"]

# Sunday at three. A week, and a day for the run.
schedule_expression       = "cron(0 3 ? * SUN *)"
settled_run_max_age_hours = 192

# A large bottle in hand is not worth losing to an interruption.
ecs_enable_fargate_spot = false
ecs_task_cpu            = 2048
ecs_task_memory         = 4096
ecs_max_tasks           = 4

lambda_sync_memory_size = 1769

s3_lifecycle_expiration_days          = 180
s3_noncurrent_version_expiration_days = 60
log_retention_days                    = 90
monthly_budget_usd                    = 250
