output "bucket_name" {
  description = "The bucket's name, once it is there."
  value       = aws_s3_bucket.this.id
}

output "bucket_arn" {
  description = "The bucket's ARN."
  value       = local.arn
}

output "bucket_regional_domain_name" {
  description = "The bucket's host name in its region, for the CDN."
  value       = aws_s3_bucket.this.bucket_regional_domain_name
}

output "replica_bucket_name" {
  description = "The replica's name; empty where there is none."
  value       = var.enable_replication ? local.replica_name : ""
}

output "policy_statements" {
  description = "The statements of the bucket's policy."
  value       = local.statements
}
