# From none to some by what waits, up to max_tasks by what waits for each task,
# and back to none only when nothing waits and nothing is in flight. A plan that
# queues large bottles raises the count too, so that nobody waits for an alarm.

locals {
  queue   = { QueueName = var.queue_name }
  service = { ClusterName = var.cluster_name, ServiceName = var.service_name }
}

resource "aws_appautoscaling_target" "this" {
  service_namespace  = "ecs"
  scalable_dimension = "ecs:service:DesiredCount"
  resource_id        = "service/${var.cluster_name}/${var.service_name}"
  min_capacity       = 0
  max_capacity       = var.max_tasks
}

# 1. Something waits: begin with one task for each so many bottles.

resource "aws_appautoscaling_policy" "scale_out" {
  name               = "${var.name}-scale-out"
  policy_type        = "StepScaling"
  service_namespace  = aws_appautoscaling_target.this.service_namespace
  scalable_dimension = aws_appautoscaling_target.this.scalable_dimension
  resource_id        = aws_appautoscaling_target.this.resource_id

  step_scaling_policy_configuration {
    # Not ExactCapacity: it would take tasks away from a queue that gets shorter.
    adjustment_type         = "ChangeInCapacity"
    metric_aggregation_type = "Maximum"
    cooldown                = var.scale_out_cooldown_seconds

    # Bounds count from the alarm's threshold, which is one bottle.
    step_adjustment {
      metric_interval_lower_bound = 0
      metric_interval_upper_bound = var.bottles_per_task
      scaling_adjustment          = 1
    }

    step_adjustment {
      metric_interval_lower_bound = var.bottles_per_task
      metric_interval_upper_bound = 2 * var.bottles_per_task
      scaling_adjustment          = 2
    }

    step_adjustment {
      metric_interval_lower_bound = 2 * var.bottles_per_task
      scaling_adjustment          = var.max_tasks
    }
  }
}

# It looks at a service without tasks; with some, the backlog for each counts.
resource "aws_cloudwatch_metric_alarm" "scale_out" {
  alarm_name          = "${var.name}-scale-out"
  alarm_description   = "Scaling, not a fault: large bottles wait and no task runs; tasks are added."
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = 1
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_appautoscaling_policy.scale_out.arn]

  # Nothing in flight means that nobody works on it.
  metric_query {
    id          = "unattended"
    expression  = "IF(inflight == 0, visible, 0)"
    label       = "Bottles that wait while nobody works"
    return_data = true
  }

  metric_query {
    id = "visible"

    metric {
      namespace   = "AWS/SQS"
      metric_name = "ApproximateNumberOfMessagesVisible"
      dimensions  = local.queue
      period      = 60
      stat        = "Maximum"
    }
  }

  metric_query {
    id = "inflight"

    metric {
      namespace   = "AWS/SQS"
      metric_name = "ApproximateNumberOfMessagesNotVisible"
      dimensions  = local.queue
      period      = 60
      stat        = "Maximum"
    }
  }
}

# 2. Tasks run: as many as keep the backlog of each at the target.

resource "aws_appautoscaling_policy" "backlog" {
  name               = "${var.name}-backlog"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.this.service_namespace
  scalable_dimension = aws_appautoscaling_target.this.scalable_dimension
  resource_id        = aws_appautoscaling_target.this.resource_id

  target_tracking_scaling_policy_configuration {
    target_value       = var.bottles_per_task
    scale_out_cooldown = var.scale_out_cooldown_seconds
    # A short backlog is no reason to stop a task with bottles in hand.
    disable_scale_in = true

    customized_metric_specification {
      # Without tasks there is no value, and nothing is done: that is the step's.
      metrics {
        id          = "backlog"
        expression  = "visible / tasks"
        label       = "Bottles that wait for each task"
        return_data = true
      }

      metrics {
        id          = "visible"
        return_data = false

        metric_stat {
          stat = "Maximum"

          metric {
            namespace   = "AWS/SQS"
            metric_name = "ApproximateNumberOfMessagesVisible"

            dimensions {
              name  = "QueueName"
              value = var.queue_name
            }
          }
        }
      }

      # Each task gives one sample a minute.
      # https://docs.aws.amazon.com/AmazonECS/latest/developerguide/cloudwatch-metrics.html
      metrics {
        id          = "tasks"
        return_data = false

        metric_stat {
          stat = "SampleCount"

          metric {
            namespace   = "AWS/ECS"
            metric_name = "CPUUtilization"

            dimensions {
              name  = "ClusterName"
              value = var.cluster_name
            }

            dimensions {
              name  = "ServiceName"
              value = var.service_name
            }
          }
        }
      }
    }
  }
}

# 3. Nothing waits and nothing is in flight: no task.

resource "aws_appautoscaling_policy" "scale_in" {
  name               = "${var.name}-scale-in"
  policy_type        = "StepScaling"
  service_namespace  = aws_appautoscaling_target.this.service_namespace
  scalable_dimension = aws_appautoscaling_target.this.scalable_dimension
  resource_id        = aws_appautoscaling_target.this.resource_id

  step_scaling_policy_configuration {
    adjustment_type         = "ExactCapacity"
    metric_aggregation_type = "Maximum"
    cooldown                = 60 * var.idle_minutes

    step_adjustment {
      metric_interval_lower_bound = 0
      scaling_adjustment          = 0
    }
  }
}

# Tasks that run for nothing, and so quiet in a system that rests.
resource "aws_cloudwatch_metric_alarm" "scale_in" {
  alarm_name          = "${var.name}-scale-in"
  alarm_description   = "Scaling, not a fault: tasks run, and nothing waits or is in flight; they are taken away."
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = 1
  evaluation_periods  = var.idle_minutes
  datapoints_to_alarm = var.idle_minutes
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_appautoscaling_policy.scale_in.arn]

  metric_query {
    id          = "idle"
    expression  = "IF((visible + inflight) == 0, tasks, 0)"
    label       = "Tasks that run for nothing"
    return_data = true
  }

  metric_query {
    id = "visible"

    metric {
      namespace   = "AWS/SQS"
      metric_name = "ApproximateNumberOfMessagesVisible"
      dimensions  = local.queue
      period      = 60
      stat        = "Maximum"
    }
  }

  metric_query {
    id = "inflight"

    metric {
      namespace   = "AWS/SQS"
      metric_name = "ApproximateNumberOfMessagesNotVisible"
      dimensions  = local.queue
      period      = 60
      stat        = "Maximum"
    }
  }

  metric_query {
    id = "tasks"

    metric {
      namespace   = "AWS/ECS"
      metric_name = "CPUUtilization"
      dimensions  = local.service
      period      = 60
      stat        = "SampleCount"
    }
  }
}
