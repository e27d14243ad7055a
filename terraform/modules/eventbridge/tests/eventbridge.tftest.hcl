mock_provider "aws" {
  mock_resource "aws_sqs_queue" {
    defaults = { arn = "arn:aws:sqs:eu-west-1:123456789012:bottles-test-scheduler-dead-letters" }
  }
}

variables {
  name                = "bottles-test"
  context             = { partition = "aws", region = "eu-west-1", account_id = "123456789012" }
  group_name          = "bottles-test"
  role_arn            = "arn:aws:iam::123456789012:role/scheduler"
  plan_function_arn   = "arn:aws:lambda:eu-west-1:123456789012:function:plan"
  settle_function_arn = "arn:aws:lambda:eu-west-1:123456789012:function:settle"
}

run "each_function_is_told_what_to_do" {
  command = plan

  assert {
    condition     = one(aws_scheduler_schedule.plan.target).arn == var.plan_function_arn && jsondecode(one(aws_scheduler_schedule.plan.target).input) == { action = "plan", whole = true }
    error_message = "the schedule of plans invokes something else, or says something else"
  }

  assert {
    condition     = one(aws_scheduler_schedule.settle.target).arn == var.settle_function_arn && jsondecode(one(aws_scheduler_schedule.settle.target).input) == { action = "settle" }
    error_message = "the schedule of settles invokes something else, or says something else"
  }
}

run "what_is_not_handed_over_is_kept" {
  command = apply

  assert {
    condition = alltrue([
      for schedule in [aws_scheduler_schedule.plan, aws_scheduler_schedule.settle] :
      one(one(schedule.target).dead_letter_config).arn == aws_sqs_queue.dead_letters.arn
    ])
    error_message = "what the scheduler gives up on is lost"
  }

  assert {
    condition     = one(one(aws_scheduler_schedule.plan.target).retry_policy).maximum_retry_attempts == 3
    error_message = "a plan that Lambda could not take is not tried again"
  }
}

run "settling_goes_on_while_planning_is_off" {
  command = plan

  variables {
    state = "DISABLED"
  }

  assert {
    condition     = aws_scheduler_schedule.plan.state == "DISABLED" && aws_scheduler_schedule.settle.state != "DISABLED"
    error_message = "runs that were begun by hand are never settled"
  }
}

run "cron_with_five_fields" {
  command = plan

  variables {
    plan_schedule = "cron(0 3 * * SUN)"
  }

  expect_failures = [var.plan_schedule]
}

run "no_schedule_at_all" {
  command = plan

  variables {
    plan_schedule   = "every sunday"
    settle_schedule = "rate(2 hours)"
    timezone        = "Berlin time"
    state           = "off"
  }

  expect_failures = [var.plan_schedule, var.settle_schedule, var.timezone, var.state]
}
