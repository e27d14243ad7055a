output "distribution_id" {
  description = "The distribution's id, for invalidations and metrics."
  value       = aws_cloudfront_distribution.this.id
}

output "distribution_arn" {
  description = "The distribution's ARN, for the bucket's policy: the aws:SourceArn that cloudfront.amazonaws.com may read what is for clients for."
  value       = aws_cloudfront_distribution.this.arn
}

output "domain_name" {
  description = "The distribution's own host name, ending in cloudfront.net: what DNS records of aliases point to."
  value       = aws_cloudfront_distribution.this.domain_name
}

output "url" {
  description = "Where clients find the mirror, without a slash at the end: https:// and the first alias, or the distribution's own host name."
  value       = "https://${length(var.aliases) > 0 ? var.aliases[0] : aws_cloudfront_distribution.this.domain_name}"
}

output "path_patterns" {
  description = "The paths that are served, as CloudFront tries them; all others answer 404."
  value       = [for behavior in local.behaviors : behavior.path_pattern if behavior.is_served]
}
