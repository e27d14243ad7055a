# CloudFront in front of the mirror's bucket, which stays private. Only api/ and v2/ are served, and flat names where
# there are some.

locals {
  origin_id = "mirror"
  year      = 365 * 24 * 60 * 60

  # What is served, in the order in which CloudFront tries it: the first pattern that matches wins, and so blobs come
  # before the rest of v2/.
  behaviors = concat(
    [
      # Bottles are compressed already.
      { path_pattern = "v2/*/blobs/*", cache_policy_id = aws_cloudfront_cache_policy.immutable.id, compress = false, is_served = true },
      # Image indexes. CloudFront doesn't compress their content type, whatever is said here.
      { path_pattern = "v2/*", cache_policy_id = aws_cloudfront_cache_policy.changing.id, compress = false, is_served = true },
      { path_pattern = "api/*", cache_policy_id = aws_cloudfront_cache_policy.changing.id, compress = true, is_served = true },
    ],
    # A flat name is no digest: another bottle may get it, when upstream builds one anew. CloudFront asks S3 then whether
    # its copy is still the one, and S3 sends no body if it is.
    [for served in [
      # Wide patterns follow, whose * crosses slashes.
      { path_pattern = "_sync/*", is_served = false },
      { path_pattern = "taps/*", is_served = true },
      { path_pattern = "*.bottle.*tar.gz", is_served = true },
      { path_pattern = "*/manifests/*", is_served = true },
    ] : merge(served, { cache_policy_id = aws_cloudfront_cache_policy.changing.id, compress = false }) if var.enable_flat_names],
  )
}

# CloudFront signs every request to S3 with a signature of its own. `always` makes it replace an Authorization header of
# the client, where `no-override` would let one through: brew sends `Authorization: Bearer QQ==` at times, and S3
# answers 400 to that.
# https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/private-content-restricting-access-to-s3.html
resource "aws_cloudfront_origin_access_control" "this" {
  name                              = var.name
  description                       = "Reads the bucket of ${var.name}."
  origin_access_control_origin_type = "s3"
  signing_behavior                  = "always"
  signing_protocol                  = "sigv4"
}

# Cache policies. No header, cookie or query string of the client is part of the key, and what isn't in the key isn't
# sent to S3 either, as no behaviour has an origin request policy. Nobody can list the bucket by a query string, or
# fill the cache with copies of one bottle.

# Bottles. Their name is their digest: they never change.
resource "aws_cloudfront_cache_policy" "immutable" {
  name    = "${var.name}-immutable"
  comment = "Bottles: named by their digest, kept for a year."

  # No minimum: an object that says that it must not be kept for long isn't. Bottles say a year themselves.
  min_ttl     = 0
  default_ttl = local.year
  max_ttl     = local.year

  parameters_in_cache_key_and_forwarded_to_origin {
    enable_accept_encoding_brotli = false
    enable_accept_encoding_gzip   = false

    headers_config {
      header_behavior = "none"
    }
    cookies_config {
      cookie_behavior = "none"
    }
    query_strings_config {
      query_string_behavior = "none"
    }
  }
}

# What changes. It is stored with `Cache-Control: no-cache`, which CloudFront heeds only down to the minimum: it is the
# minimum that keeps a fleet's requests from S3, and the maximum that keeps a copy from getting old.
# https://docs.aws.amazon.com/cloudfront/latest/APIReference/API_CachePolicyConfig.html
resource "aws_cloudfront_cache_policy" "changing" {
  name    = "${var.name}-changing"
  comment = "API files, image indexes, flat names: asked for anew after ${var.short_ttl_seconds} s."

  min_ttl     = var.short_ttl_seconds
  default_ttl = var.short_ttl_seconds
  max_ttl     = var.short_ttl_seconds

  parameters_in_cache_key_and_forwarded_to_origin {
    # CloudFront keeps one copy for each encoding, by its own form of Accept-Encoding. It compresses only where both
    # are on and the behaviour asks for it:
    # https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/ServingCompressedFiles.html
    enable_accept_encoding_brotli = true
    enable_accept_encoding_gzip   = true

    headers_config {
      header_behavior = "none"
    }
    cookies_config {
      cookie_behavior = "none"
    }
    query_strings_config {
      query_string_behavior = "none"
    }
  }
}

# Answers whatever isn't served, our own records below _sync/ above all. The bucket's policy refuses them too; this way
# nobody makes CloudFront ask S3 for them.
resource "aws_cloudfront_function" "not_found" {
  name    = "${var.name}-not-found"
  comment = "Answers 404 without asking S3."
  runtime = "cloudfront-js-2.0"
  publish = true

  code = <<-EOT
    function handler(event) {
      return { statusCode: 404, statusDescription: 'Not Found' };
    }
  EOT
}

resource "aws_cloudfront_distribution" "this" {
  #checkov:skip=CKV2_AWS_47:The rule against Log4j's hole guards servers; there is none behind this distribution.
  #checkov:skip=CKV_AWS_305:There is no page at the root; it answers 404.
  #checkov:skip=CKV_AWS_310:There is one bucket, and nothing to fail over to.
  #checkov:skip=CKV_AWS_374:A team's machines may be anywhere; web_acl_arn says who may read.
  #checkov:skip=CKV2_AWS_32:Security headers are for browsers; brew reads archives and JSON.
  enabled         = true
  comment         = var.comment
  aliases         = var.aliases
  price_class     = var.price_class
  web_acl_id      = var.web_acl_arn
  http_version    = "http2and3"
  is_ipv6_enabled = true

  origin {
    origin_id                = local.origin_id
    domain_name              = var.bucket_regional_domain_name
    origin_access_control_id = aws_cloudfront_origin_access_control.this.id
  }

  dynamic "ordered_cache_behavior" {
    for_each = local.behaviors

    content {
      path_pattern     = ordered_cache_behavior.value.path_pattern
      target_origin_id = local.origin_id
      cache_policy_id  = ordered_cache_behavior.value.cache_policy_id
      compress         = ordered_cache_behavior.value.compress
      allowed_methods  = ["GET", "HEAD"]
      cached_methods   = ["GET", "HEAD"]
      # brew speaks HTTPS. A redirect would hide a URL that was set without it, and each first request would go in the
      # clear.
      viewer_protocol_policy = "https-only"

      dynamic "function_association" {
        for_each = ordered_cache_behavior.value.is_served ? [] : [aws_cloudfront_function.not_found.arn]

        content {
          event_type   = "viewer-request"
          function_arn = function_association.value
        }
      }
    }
  }

  # Everything else. The function answers before the cache is looked at; origin and cache policy are there because AWS
  # wants them.
  default_cache_behavior {
    target_origin_id       = local.origin_id
    cache_policy_id        = aws_cloudfront_cache_policy.changing.id
    compress               = false
    allowed_methods        = ["GET", "HEAD"]
    cached_methods         = ["GET", "HEAD"]
    viewer_protocol_policy = "https-only"

    function_association {
      event_type   = "viewer-request"
      function_arn = aws_cloudfront_function.not_found.arn
    }
  }

  viewer_certificate {
    cloudfront_default_certificate = var.acm_certificate_arn == null
    acm_certificate_arn            = var.acm_certificate_arn
    # With its own certificate CloudFront sets TLSv1, whatever is said here; saying so keeps plans empty:
    # https://docs.aws.amazon.com/cloudfront/latest/APIReference/API_ViewerCertificate.html
    minimum_protocol_version = var.acm_certificate_arn == null ? "TLSv1" : "TLSv1.2_2021"
    ssl_support_method       = var.acm_certificate_arn == null ? null : "sni-only"
  }

  restrictions {
    geo_restriction {
      restriction_type = "none"
    }
  }

  dynamic "logging_config" {
    for_each = var.access_log_bucket_domain_name[*]

    content {
      bucket          = logging_config.value
      prefix          = "${var.name}/"
      include_cookies = false
    }
  }
}
