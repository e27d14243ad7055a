# What is served, from where, and what of a client's request reaches S3. Ids are known only after an apply, which the
# mocked provider makes without a network.

mock_provider "aws" {
  # A distribution takes nothing but a well-formed ARN for its function.
  mock_resource "aws_cloudfront_function" {
    defaults = { arn = "arn:aws:cloudfront::123456789012:function/bottles-test-not-found" }
  }
  mock_resource "aws_cloudfront_distribution" {
    defaults = {
      arn         = "arn:aws:cloudfront::123456789012:distribution/E1EXAMPLE"
      domain_name = "d111111abcdef8.cloudfront.net"
    }
  }
}

variables {
  name                        = "bottles-test"
  bucket_regional_domain_name = "team-bottles.s3.eu-central-1.amazonaws.com"
}

run "only_api_and_v2_are_served" {
  command = apply

  assert {
    condition = (
      aws_cloudfront_distribution.this.ordered_cache_behavior[*].path_pattern ==
      tolist(["v2/*/blobs/*", "v2/*", "api/*"])
    )
    error_message = "Blobs come first, since the first pattern that matches wins; nothing beside api/ and v2/ has a behaviour."
  }

  assert {
    condition = (
      [for association in aws_cloudfront_distribution.this.default_cache_behavior[0].function_association :
      "${association.event_type} ${association.function_arn}"] ==
      ["viewer-request ${aws_cloudfront_function.not_found.arn}"]
    )
    error_message = "All other requests are answered by the function, before the cache and S3 are asked."
  }

  assert {
    condition = alltrue([
      for behavior in aws_cloudfront_distribution.this.ordered_cache_behavior :
      length(behavior.function_association) == 0 && length(behavior.lambda_function_association) == 0
    ])
    error_message = "What is served goes through no function."
  }

  assert {
    condition     = aws_cloudfront_distribution.this.enabled && length(aws_cloudfront_distribution.this.custom_error_response) == 0
    error_message = "Errors reach clients as they are: no error is turned into a page."
  }
}

run "flat_names_are_served_where_they_are_kept" {
  command = apply

  variables {
    enable_flat_names = true
  }

  assert {
    condition = (
      aws_cloudfront_distribution.this.ordered_cache_behavior[*].path_pattern ==
      tolist(["v2/*/blobs/*", "v2/*", "api/*", "_sync/*", "taps/*", "*.bottle.*tar.gz", "*/manifests/*"])
    )
    error_message = "Our own records come before the wide patterns, which would fit them."
  }

  assert {
    condition = (
      { for behavior in aws_cloudfront_distribution.this.ordered_cache_behavior : behavior.path_pattern =>
      [for association in behavior.function_association : association.function_arn] if length(behavior.function_association) > 0 } ==
      { "_sync/*" = [aws_cloudfront_function.not_found.arn] }
    )
    error_message = "Our own records are refused by the function, and nothing else that has a behaviour is."
  }

  assert {
    condition = (
      [for association in aws_cloudfront_distribution.this.default_cache_behavior[0].function_association :
      "${association.event_type} ${association.function_arn}"] ==
      ["viewer-request ${aws_cloudfront_function.not_found.arn}"]
    )
    error_message = "All other requests are answered by the function, with flat names too."
  }

  # They are no digests: none is kept for a year.
  assert {
    condition = alltrue([
      for behavior in aws_cloudfront_distribution.this.ordered_cache_behavior :
      (behavior.cache_policy_id == aws_cloudfront_cache_policy.immutable.id) == (behavior.path_pattern == "v2/*/blobs/*") &&
      behavior.compress == (behavior.path_pattern == "api/*")
    ])
    error_message = "Only blobs are immutable, and only API files compressed."
  }
}

run "the_function_answers_404_to_everything" {
  command = plan

  # One return and no way around it: the request is neither looked at nor passed on.
  assert {
    condition = (
      length(regexall("\\breturn\\b", aws_cloudfront_function.not_found.code)) == 1 &&
      can(regex("return \\{ statusCode: 404\\b", aws_cloudfront_function.not_found.code)) &&
      !can(regex("request|\\bif\\b|\\?", aws_cloudfront_function.not_found.code))
    )
    error_message = "The function's only answer is 404."
  }

  assert {
    condition     = aws_cloudfront_function.not_found.publish && aws_cloudfront_function.not_found.runtime == "cloudfront-js-2.0"
    error_message = "The function is live, not only in development."
  }
}

run "the_bucket_is_read_with_cloudfronts_signature" {
  command = apply

  assert {
    condition = (
      aws_cloudfront_origin_access_control.this.signing_behavior == "always" &&
      aws_cloudfront_origin_access_control.this.signing_protocol == "sigv4" &&
      aws_cloudfront_origin_access_control.this.origin_access_control_origin_type == "s3"
    )
    error_message = "CloudFront signs every request, over whatever Authorization header the client sent."
  }

  assert {
    condition = (
      [for origin in aws_cloudfront_distribution.this.origin : origin.domain_name] == [var.bucket_regional_domain_name] &&
      alltrue([for origin in aws_cloudfront_distribution.this.origin :
        origin.origin_access_control_id == aws_cloudfront_origin_access_control.this.id &&
        length(origin.custom_origin_config) == 0 && length(origin.custom_header) == 0 &&
      (origin.origin_path == null || origin.origin_path == "")])
    )
    error_message = "The one origin is the bucket, by its regional name and from its root, with origin access control."
  }
}

run "nothing_of_the_client_reaches_s3" {
  command = apply

  # Of all that can be served.
  variables {
    enable_flat_names = true
  }

  assert {
    condition = alltrue([
      for behavior in concat(
        aws_cloudfront_distribution.this.ordered_cache_behavior[*],
        aws_cloudfront_distribution.this.default_cache_behavior[*]
      ) :
      (behavior.origin_request_policy_id == null || behavior.origin_request_policy_id == "") &&
      length(behavior.forwarded_values) == 0 &&
      contains([aws_cloudfront_cache_policy.immutable.id, aws_cloudfront_cache_policy.changing.id], behavior.cache_policy_id)
    ])
    error_message = "No behaviour forwards more than its cache policy says."
  }

  assert {
    condition = alltrue([
      for policy in [aws_cloudfront_cache_policy.immutable, aws_cloudfront_cache_policy.changing] : (
        policy.parameters_in_cache_key_and_forwarded_to_origin[0].headers_config[0].header_behavior == "none" &&
        policy.parameters_in_cache_key_and_forwarded_to_origin[0].cookies_config[0].cookie_behavior == "none" &&
        policy.parameters_in_cache_key_and_forwarded_to_origin[0].query_strings_config[0].query_string_behavior == "none"
      )
    ])
    error_message = "No header (Authorization above all), cookie or query string is in the cache key, and so none is sent to S3."
  }

  assert {
    condition = alltrue([
      for behavior in concat(
        aws_cloudfront_distribution.this.ordered_cache_behavior[*],
        aws_cloudfront_distribution.this.default_cache_behavior[*]
      ) :
      toset(behavior.allowed_methods) == toset(["GET", "HEAD"]) &&
      toset(behavior.cached_methods) == toset(["GET", "HEAD"]) &&
      behavior.viewer_protocol_policy == "https-only"
    ])
    error_message = "Clients read, by HTTPS."
  }
}

run "bottles_are_kept_for_a_year_and_the_rest_shortly" {
  command = apply

  variables {
    short_ttl_seconds = 90
  }

  assert {
    condition = (
      { for behavior in aws_cloudfront_distribution.this.ordered_cache_behavior : behavior.path_pattern => behavior.cache_policy_id } == {
        "v2/*/blobs/*" = aws_cloudfront_cache_policy.immutable.id
        "v2/*"         = aws_cloudfront_cache_policy.changing.id
        "api/*"        = aws_cloudfront_cache_policy.changing.id
      } &&
      aws_cloudfront_cache_policy.immutable.id != aws_cloudfront_cache_policy.changing.id
    )
    error_message = "Only blobs are immutable."
  }

  assert {
    condition = (
      aws_cloudfront_cache_policy.immutable.default_ttl == 31536000 &&
      aws_cloudfront_cache_policy.immutable.max_ttl == 31536000 &&
      aws_cloudfront_cache_policy.immutable.min_ttl == 0
    )
    error_message = "Bottles are kept for a year, unless they say otherwise themselves."
  }

  assert {
    condition = (
      aws_cloudfront_cache_policy.changing.min_ttl == 90 &&
      aws_cloudfront_cache_policy.changing.default_ttl == 90 &&
      aws_cloudfront_cache_policy.changing.max_ttl == 90
    )
    error_message = "What changes is kept for short_ttl_seconds, whatever Cache-Control it was stored with."
  }

  assert {
    condition = (
      { for behavior in aws_cloudfront_distribution.this.ordered_cache_behavior : behavior.path_pattern => behavior.compress } == {
        "v2/*/blobs/*" = false
        "v2/*"         = false
        "api/*"        = true
      } &&
      aws_cloudfront_cache_policy.changing.parameters_in_cache_key_and_forwarded_to_origin[0].enable_accept_encoding_gzip &&
      aws_cloudfront_cache_policy.changing.parameters_in_cache_key_and_forwarded_to_origin[0].enable_accept_encoding_brotli &&
      !aws_cloudfront_cache_policy.immutable.parameters_in_cache_key_and_forwarded_to_origin[0].enable_accept_encoding_gzip &&
      !aws_cloudfront_cache_policy.immutable.parameters_in_cache_key_and_forwarded_to_origin[0].enable_accept_encoding_brotli
    )
    error_message = "API files are compressed, which takes the policy as well as the behaviour; of a bottle there is one copy."
  }
}

run "without_aliases_it_has_cloudfronts_name" {
  command = apply

  assert {
    condition = (
      aws_cloudfront_distribution.this.viewer_certificate[0].cloudfront_default_certificate == true &&
      try(length(aws_cloudfront_distribution.this.aliases), 0) == 0
    )
    error_message = "Without aliases CloudFront's own certificate is used."
  }

  assert {
    condition = (
      output.url == "https://d111111abcdef8.cloudfront.net" &&
      output.domain_name == "d111111abcdef8.cloudfront.net" &&
      output.distribution_arn == "arn:aws:cloudfront::123456789012:distribution/E1EXAMPLE" &&
      output.distribution_id == aws_cloudfront_distribution.this.id
    )
    error_message = "Outputs are the distribution's; the url is https:// and its host name."
  }

  assert {
    condition = (
      try(length(aws_cloudfront_distribution.this.logging_config), 0) == 0 &&
      aws_cloudfront_distribution.this.web_acl_id == null &&
      aws_cloudfront_distribution.this.restrictions[0].geo_restriction[0].restriction_type == "none" &&
      aws_cloudfront_distribution.this.http_version == "http2and3" &&
      aws_cloudfront_distribution.this.is_ipv6_enabled
    )
    error_message = "No logs, web ACL or country list unless asked for; HTTP/3 and IPv6 always."
  }
}

run "aliases_come_with_tls_1_2" {
  command = apply

  variables {
    aliases             = ["bottles.example.com", "brew.example.com"]
    acm_certificate_arn = "arn:aws:acm:us-east-1:123456789012:certificate/01234567-89ab-cdef-0123-456789abcdef"
  }

  assert {
    condition = (
      aws_cloudfront_distribution.this.viewer_certificate[0].acm_certificate_arn == var.acm_certificate_arn &&
      aws_cloudfront_distribution.this.viewer_certificate[0].cloudfront_default_certificate == false &&
      aws_cloudfront_distribution.this.viewer_certificate[0].minimum_protocol_version == "TLSv1.2_2021" &&
      aws_cloudfront_distribution.this.viewer_certificate[0].ssl_support_method == "sni-only"
    )
    error_message = "With a certificate of one's own, clients speak TLS 1.2 or newer."
  }

  assert {
    condition = (
      toset(aws_cloudfront_distribution.this.aliases) == toset(["bottles.example.com", "brew.example.com"]) &&
      output.url == "https://bottles.example.com"
    )
    error_message = "All aliases are served, and the first one makes the url."
  }
}

run "readers_can_be_limited_and_logged" {
  command = apply

  variables {
    web_acl_arn                   = "arn:aws:wafv2:us-east-1:123456789012:global/webacl/team/01234567-89ab-cdef-0123-456789abcdef"
    access_log_bucket_domain_name = "team-logs.s3.amazonaws.com"
    price_class                   = "PriceClass_All"
  }

  assert {
    condition = (
      aws_cloudfront_distribution.this.web_acl_id == var.web_acl_arn &&
      aws_cloudfront_distribution.this.price_class == "PriceClass_All"
    )
    error_message = "The web ACL guards the distribution."
  }

  assert {
    condition = (
      aws_cloudfront_distribution.this.logging_config[0].bucket == "team-logs.s3.amazonaws.com" &&
      aws_cloudfront_distribution.this.logging_config[0].prefix == "bottles-test/" &&
      aws_cloudfront_distribution.this.logging_config[0].include_cookies == false
    )
    error_message = "Access logs go to the bucket, below the deployment's name, without cookies."
  }
}
