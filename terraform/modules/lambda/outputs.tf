output "functions" {
  description = "The functions by what they do, plan, settle, consumer and alarms: name, ARN, log group and timeout in seconds."
  value = {
    for key, function in aws_lambda_function.this : key => {
      name            = function.function_name
      arn             = function.arn
      log_group       = aws_cloudwatch_log_group.this[key].name
      timeout_seconds = function.timeout
    }
  }
}

output "failures_queue" {
  description = "The queue of invocations that failed for good: name, URL and ARN."
  value = {
    name = aws_sqs_queue.failures.name
    url  = aws_sqs_queue.failures.url
    arn  = local.failures_arn
  }
}
