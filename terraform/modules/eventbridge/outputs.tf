output "dead_letters" {
  description = "The queue of what the scheduler could not hand over: name, URL and ARN."
  value = {
    name = aws_sqs_queue.dead_letters.name
    url  = aws_sqs_queue.dead_letters.url
    arn  = local.dead_letters_arn
  }
}

output "schedules" {
  description = "The schedules: when to plan, and when to settle."
  value = {
    plan   = "${aws_scheduler_schedule.plan.schedule_expression} ${var.timezone}, ${lower(var.state)}"
    settle = aws_scheduler_schedule.settle.schedule_expression
  }
}
