# What the variables refuse. Each run differs from valid input in one thing.

mock_provider "aws" {
  mock_resource "aws_cloudfront_function" {
    defaults = { arn = "arn:aws:cloudfront::123456789012:function/bottles-test-not-found" }
  }
}

variables {
  name                        = "bottles-test"
  bucket_regional_domain_name = "team-bottles.s3.eu-central-1.amazonaws.com"
}

run "a_name_with_capitals_is_refused" {
  command = plan

  variables {
    name = "Bottles"
  }

  expect_failures = [var.name]
}

run "a_bucket_without_region_is_refused" {
  command = plan

  variables {
    bucket_regional_domain_name = "team-bottles.s3.amazonaws.com"
  }

  expect_failures = [var.bucket_regional_domain_name]
}

run "a_bucket_with_scheme_is_refused" {
  command = plan

  variables {
    bucket_regional_domain_name = "https://team-bottles.s3.eu-central-1.amazonaws.com"
  }

  expect_failures = [var.bucket_regional_domain_name]
}

run "a_website_endpoint_is_refused" {
  command = plan

  variables {
    bucket_regional_domain_name = "team-bottles.s3-website.eu-central-1.amazonaws.com"
  }

  expect_failures = [var.bucket_regional_domain_name]
}

run "a_long_comment_is_refused" {
  command = plan

  variables {
    comment = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
  }

  expect_failures = [var.comment]
}

run "another_price_class_is_refused" {
  command = plan

  variables {
    price_class = "PriceClass_300"
  }

  expect_failures = [var.price_class]
}

run "an_alias_that_is_a_url_is_refused" {
  command = plan

  variables {
    aliases             = ["https://bottles.example.com"]
    acm_certificate_arn = "arn:aws:acm:us-east-1:123456789012:certificate/01234567-89ab-cdef-0123-456789abcdef"
  }

  expect_failures = [var.aliases]
}

run "an_alias_with_a_wildcard_is_refused" {
  command = plan

  variables {
    aliases             = ["*.example.com"]
    acm_certificate_arn = "arn:aws:acm:us-east-1:123456789012:certificate/01234567-89ab-cdef-0123-456789abcdef"
  }

  expect_failures = [var.aliases]
}

run "an_alias_named_twice_is_refused" {
  command = plan

  variables {
    aliases             = ["bottles.example.com", "bottles.example.com"]
    acm_certificate_arn = "arn:aws:acm:us-east-1:123456789012:certificate/01234567-89ab-cdef-0123-456789abcdef"
  }

  expect_failures = [var.aliases]
}

run "an_alias_without_certificate_is_refused" {
  command = plan

  variables {
    aliases = ["bottles.example.com"]
  }

  expect_failures = [var.acm_certificate_arn]
}

run "a_certificate_without_alias_is_refused" {
  command = plan

  variables {
    acm_certificate_arn = "arn:aws:acm:us-east-1:123456789012:certificate/01234567-89ab-cdef-0123-456789abcdef"
  }

  expect_failures = [var.acm_certificate_arn]
}

run "a_certificate_of_another_region_is_refused" {
  command = plan

  variables {
    aliases             = ["bottles.example.com"]
    acm_certificate_arn = "arn:aws:acm:eu-central-1:123456789012:certificate/01234567-89ab-cdef-0123-456789abcdef"
  }

  expect_failures = [var.acm_certificate_arn]
}

run "a_regional_web_acl_is_refused" {
  command = plan

  variables {
    web_acl_arn = "arn:aws:wafv2:eu-central-1:123456789012:regional/webacl/team/01234567-89ab-cdef-0123-456789abcdef"
  }

  expect_failures = [var.web_acl_arn]
}

run "no_ttl_is_refused" {
  command = plan

  variables {
    short_ttl_seconds = 0
  }

  expect_failures = [var.short_ttl_seconds]
}

run "a_part_of_a_second_is_refused" {
  command = plan

  variables {
    short_ttl_seconds = 1.5
  }

  expect_failures = [var.short_ttl_seconds]
}

run "more_than_an_hour_is_refused" {
  command = plan

  variables {
    short_ttl_seconds = 3601
  }

  expect_failures = [var.short_ttl_seconds]
}

run "a_bare_log_bucket_is_refused" {
  command = plan

  variables {
    access_log_bucket_domain_name = "team-logs"
  }

  expect_failures = [var.access_log_bucket_domain_name]
}
