output "alarm_names" {
  description = "The alarms by what they are about."
  value = merge(
    { for key, alarm in aws_cloudwatch_metric_alarm.this : key => alarm.alarm_name },
    { for alarm in aws_cloudwatch_metric_alarm.unattended : "large-unattended" => alarm.alarm_name },
  )
}

output "dashboard_url" {
  description = "Where the dashboard is."
  value       = "https://${var.context.region}.console.aws.amazon.com/cloudwatch/home?region=${var.context.region}#dashboards/dashboard/${aws_cloudwatch_dashboard.this.dashboard_name}"
}
