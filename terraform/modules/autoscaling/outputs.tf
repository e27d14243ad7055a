output "resource_id" {
  description = "What Application Auto Scaling calls the service: service/CLUSTER/SERVICE."
  value       = aws_appautoscaling_target.this.resource_id
}

output "alarm_names" {
  description = "The alarms that scale. They are no faults, and tell nobody."
  value       = [aws_cloudwatch_metric_alarm.scale_out.alarm_name, aws_cloudwatch_metric_alarm.scale_in.alarm_name]
}
