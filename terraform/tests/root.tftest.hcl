# The modules wired together: what one makes, another names.

mock_provider "aws" {
  source = "./tests/mocks"
}

mock_provider "aws" {
  alias = "backup"
}

variables {
  environment                  = "staging"
  aws_region                   = "eu-west-1"
  slack_webhook_url            = ""
  notification_email_addresses = ["team@example.com"]
  # Any file does: a mocked Lambda doesn't read it.
  lambda_orchestrator_zip_path = "main.tf"
  lambda_sync_zip_path         = "main.tf"
}

run "the_command_finds_the_parts" {
  command = apply

  assert {
    condition     = aws_ssm_parameter.stack.name == "/bottles/homebrew-bottles-sync-staging"
    error_message = "bottles --stack looks elsewhere"
  }

  assert {
    condition = alltrue([
      for key in keys(jsondecode(aws_ssm_parameter.stack.value)) : contains(keys(jsondecode(file("contract.json")).variables), "BOTTLES_${upper(key)}")
    ])
    error_message = "the parameter names a part that the command doesn't know"
  }

  assert {
    condition     = length(jsondecode(aws_ssm_parameter.stack.value)) == 9 && jsondecode(aws_ssm_parameter.stack.value).expire_after == "90d"
    error_message = "the parameter lacks a part"
  }
}

run "programs_are_told_the_same_names" {
  command = apply

  assert {
    condition = alltrue([
      for environment in [local.producer_environment, local.consumer_lambda_environment, local.consumer_ecs_environment] :
      environment["BOTTLES_ENVIRONMENT"] == "homebrew-bottles-sync-staging" && environment["BOTTLES_TO"] == "s3://homebrew-bottles-sync-staging-123456789012"
    ])
    error_message = "a program works on another bucket, or emits metrics under another name than the alarms have"
  }

  assert {
    condition     = local.producer_environment["BOTTLES_ECS_CLUSTER"] == module.ecs.cluster_name && local.producer_environment["BOTTLES_ECS_SERVICE"] == module.ecs.service_name
    error_message = "a plan raises the tasks of another service"
  }

  assert {
    condition = alltrue(flatten([
      for service, environment in {
        producer        = merge(local.producer_environment, local.alarms_environment)
        consumer-lambda = local.consumer_lambda_environment
        consumer-ecs    = local.consumer_ecs_environment
      } : [for name in keys(environment) : contains(jsondecode(file("contract.json")).variables[name], service)]
    ]))
    error_message = "a program is given a variable that it doesn't read"
  }

  assert {
    condition     = module.lambda.functions["plan"].name == "homebrew-bottles-sync-staging-plan" && module.lambda.functions["settle"].name == "homebrew-bottles-sync-staging-settle"
    error_message = "the roles' policies name other functions"
  }

  assert {
    condition     = module.s3.bucket_arn == local.bucket_arn
    error_message = "the roles' policies name another bucket"
  }

  assert {
    condition     = module.lambda.failures_queue.arn == "${local.sqs_arn}-failed-invocations" && module.eventbridge.dead_letters.arn == "${local.sqs_arn}-scheduler-dead-letters"
    error_message = "the roles' policies name other queues of failures"
  }
}

# The rule that expires what is superseded, and the program that tells when.
run "what_is_superseded_expires_when_the_program_says" {
  command = apply

  variables {
    s3_lifecycle_expiration_days = 14
  }

  assert {
    condition     = local.producer_environment["BOTTLES_EXPIRE_AFTER"] == "14d"
    error_message = "the program tells another day than the bucket's rule has"
  }
}

run "limits_go_together" {
  command = apply

  variables {
    retry_attempts   = 7
    ecs_stop_timeout = 90
    ecs_max_tasks    = 9
    ecs_task_memory  = 4096
  }

  assert {
    condition     = local.consumer_ecs_environment["BOTTLES_MOST_RECEIVES"] == "8" && local.consumer_lambda_environment["BOTTLES_MOST_RECEIVES"] == "8"
    error_message = "bottles are tried another number of times"
  }

  assert {
    condition     = local.consumer_ecs_environment["BOTTLES_STOP_TIMEOUT"] == "80s"
    error_message = "a task is killed before it has given its bottles back"
  }

  assert {
    condition     = local.producer_environment["BOTTLES_MOST_TASKS"] == "9"
    error_message = "a plan asks for more tasks than autoscaling allows"
  }

  assert {
    condition     = local.consumer_ecs_environment["BOTTLES_MEMORY"] == "2048MiB"
    error_message = "bottles don't have half of a task's memory"
  }
}

run "names_that_users_know" {
  command = apply

  variables {
    size_threshold_gb        = 0.25
    target_platforms         = ["arm64_tahoe", "ventura"]
    log_level                = "WARNING"
    max_concurrent_downloads = 5
  }

  assert {
    condition     = local.producer_environment["BOTTLES_SIZE_THRESHOLD"] == "250MB"
    error_message = "size_threshold_gb means something else"
  }

  assert {
    condition     = aws_s3_object.selection.content == "tags = [\"arm64_tahoe\",\"ventura\"]\n"
    error_message = "target_platforms means something else"
  }

  assert {
    condition     = local.producer_environment["BOTTLES_SELECTION"] == "s3://homebrew-bottles-sync-staging-123456789012/_sync/selection.toml"
    error_message = "a plan reads another selection"
  }

  assert {
    condition     = local.everyone["BOTTLES_LOG"] == "warn" && local.everyone["BOTTLES_CONCURRENCY"] == "5"
    error_message = "log_level or max_concurrent_downloads means something else"
  }
}

run "everything" {
  command = plan

  variables {
    target_platforms = []
  }

  # An empty list of tags would be refused by the producer.
  assert {
    condition     = !strcontains(aws_s3_object.selection.content, "tags")
    error_message = "no platform at all is mirrored"
  }
}

run "a_selection_of_ones_own" {
  command = apply

  variables {
    selection = "formulae = [\"wget\"]\n"
  }

  assert {
    condition     = aws_s3_object.selection.content == "formulae = [\"wget\"]\n"
    error_message = "the selection is not used as it is"
  }
}

run "flat_names_take_their_permissions" {
  command = plan

  variables {
    selection = <<-TOML
      formulae = ["wget"]
        layout = "flat"
    TOML
  }

  expect_failures = [var.enable_flat_names]
}

run "taps_may_take_them_too" {
  command = plan

  variables {
    selection = <<-TOML
      [[taps]]
      name = "example/tools"
      catalogue = "https://taps.example.com/formula.json"
    TOML
  }

  expect_failures = [check.taps_have_their_names]
}

run "flat_names_and_taps_with_their_permissions" {
  command = apply

  variables {
    enable_flat_names = true
    enable_cdn        = true
    selection         = <<-TOML
      layout = "flat"

      [[taps]]
      name = "example/tools"
      catalogue = "https://taps.example.com/formula.json"
    TOML
  }

  assert {
    condition = anytrue([
      for statement in module.s3.policy_statements :
      statement.Sid == "CdnReadsWhatIsForClients" && contains(statement.Resource, "${local.bucket_arn}/*.bottle.*tar.gz")
    ])
    error_message = "clients may not read flat names"
  }

  assert {
    condition     = contains(module.iam.statement_names["producer"], "NameAndRetireFlatCopies") && contains(module.cdn[0].path_patterns, "taps/*")
    error_message = "settle may not write flat names, or the CDN doesn't serve them"
  }
}

run "what_is_no_layout_asks_for_none" {
  command = plan

  variables {
    selection = <<-TOML
      # layout = "flat"
      formulae = ["flat", "layout", "taps"]
      layout = "oci"
    TOML
  }

  assert {
    condition     = !var.enable_flat_names
    error_message = "flat names are on though nobody asked for them"
  }
}

run "slack_and_mail" {
  command = apply

  variables {
    enable_slack_notifications = true
    enable_sns_notifications   = true
  }

  assert {
    condition     = local.producer_environment["BOTTLES_SLACK_SECRET"] == "homebrew-bottles-sync-staging/slack" && local.alarms_environment["BOTTLES_SLACK_SECRET"] == "homebrew-bottles-sync-staging/slack"
    error_message = "the producer reads another secret, or its value is where its name is meant"
  }

  assert {
    condition     = local.producer_environment["BOTTLES_SNS_TOPIC"] == "arn:aws:sns:eu-west-1:123456789012:topic"
    error_message = "notices go to another topic"
  }

  assert {
    condition     = contains(keys(module.lambda.functions), "alarms")
    error_message = "nobody passes alarms on"
  }
}

run "nobody_is_told" {
  command = plan

  variables {
    notification_email_addresses = []
  }

  expect_failures = [check.somebody_is_told]
}

run "clients_read_through_the_cdn" {
  command = apply

  variables {
    enable_cdn = true
  }

  assert {
    condition = output.mirror_url == "https://d1.cloudfront.net" && output.brew_environment == tolist([
      "export HOMEBREW_API_DOMAIN=https://d1.cloudfront.net/api",
      "export HOMEBREW_ARTIFACT_DOMAIN=https://d1.cloudfront.net",
      "export HOMEBREW_ARTIFACT_DOMAIN_NO_FALLBACK=1",
      "export HOMEBREW_DOCKER_REGISTRY_BASIC_AUTH_TOKEN=none",
    ])
    error_message = "clients are sent elsewhere"
  }

  assert {
    condition = anytrue([
      for statement in module.s3.policy_statements : try(statement.Condition.StringEquals["aws:SourceArn"] == "arn:aws:cloudfront::123456789012:distribution/E1", false)
    ])
    error_message = "the CDN may not read the bucket"
  }
}

run "clients_read_through_their_vpc" {
  command = apply

  variables {
    reader_vpc_endpoint_ids = ["vpce-0123456789abcdef0"]
  }

  assert {
    condition     = output.mirror_url == "https://homebrew-bottles-sync-staging-123456789012.s3.eu-west-1.amazonaws.com"
    error_message = "clients are sent elsewhere"
  }
}

run "a_mirror_that_nobody_may_read_has_no_url" {
  command = apply

  assert {
    condition     = output.mirror_url == "" && length(output.brew_environment) == 0
    error_message = "clients are sent to what they may not read"
  }
}

run "an_image_from_another_account_may_be_pulled" {
  command = apply

  variables {
    ecs_container_image = "999999999999.dkr.ecr.us-west-2.amazonaws.com/team/bottles:1"
  }

  assert {
    condition     = local.image_repository == "us-west-2:999999999999:repository/team/bottles"
    error_message = "the task may not pull its image"
  }
}

run "without_a_nat" {
  command = apply

  variables {
    enable_nat_gateway = false
  }

  assert {
    condition     = module.network.task_assign_public_ip && length(output.nat_gateway_public_ips) == 0
    error_message = "tasks have no way to upstream, or a NAT is paid for"
  }
}

run "keys_by_their_id" {
  command = apply

  variables {
    s3_kms_key_id  = "1234abcd-12ab-34cd-56ef-1234567890ab"
    sqs_kms_key_id = "arn:aws:kms:eu-west-1:123456789012:key/queues"
  }

  assert {
    condition     = local.kms_key_arns.bucket == "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab" && local.kms_key_arns.queues == "arn:aws:kms:eu-west-1:123456789012:key/queues"
    error_message = "policies name another key"
  }
}

run "values_that_cant_be" {
  command = plan

  variables {
    environment                = "production"
    size_threshold_gb          = 20
    target_platforms           = ["arm64-tahoe"]
    schedule_expression        = "weekly"
    log_retention_days         = 8
    slack_webhook_version      = 1
    s3_enable_replication      = true
    extra_environment          = { BOTTLES_TO = "s3://other" }
    cdn_aliases                = ["bottles.example.com"]
    enable_cross_region_backup = true
  }

  expect_failures = [
    var.environment, var.size_threshold_gb, var.target_platforms, var.schedule_expression,
    var.log_retention_days, var.slack_webhook_version, var.s3_enable_replication, var.extra_environment,
    var.cdn_aliases, var.enable_cross_region_backup,
  ]
}

run "a_name_that_does_not_fit" {
  command = plan

  variables {
    project_name = "our-own-copy-of-the-bottles-of-homebrew-core"
  }

  expect_failures = [var.project_name]
}
