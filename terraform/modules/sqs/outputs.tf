output "queues" {
  description = "The work queues by lane, small and large: name, URL and ARN."
  value = {
    for lane in local.lanes : lane => {
      name = aws_sqs_queue.work[lane].name
      url  = aws_sqs_queue.work[lane].url
      arn  = local.arns[lane]
    }
  }
}

output "dead_letters" {
  description = "Their dead-letter queues by lane: name, URL and ARN."
  value = {
    for lane in local.lanes : lane => {
      name = aws_sqs_queue.dead_letters[lane].name
      url  = aws_sqs_queue.dead_letters[lane].url
      arn  = local.dead_arns[lane]
    }
  }
}
