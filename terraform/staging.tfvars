# As production, but on Spot, and a day earlier: what breaks shows here first.

environment = "staging"
aws_region  = "us-east-1"

target_platforms = ["arm64_tahoe", "arm64_sequoia"]

# Saturday at three. A week, and a day for the run.
schedule_expression       = "cron(0 3 ? * SAT *)"
settled_run_max_age_hours = 192

enable_nat_gateway = false

ecs_enable_fargate_spot = true
ecs_fargate_weight      = 1
ecs_fargate_spot_weight = 3

s3_force_destroy             = true
s3_lifecycle_expiration_days = 30
log_retention_days           = 14
monthly_budget_usd           = 60
