mock_provider "aws" {}

mock_provider "aws" {
  alias = "backup"
}

variables {
  name        = "bottles-test"
  bucket_name = "bottles-test-123456789012"
  context     = { partition = "aws", region = "eu-west-1", account_id = "123456789012" }
}

run "private_encrypted_versioned" {
  command = plan

  assert {
    condition = alltrue([
      aws_s3_bucket_public_access_block.this.block_public_acls,
      aws_s3_bucket_public_access_block.this.block_public_policy,
      aws_s3_bucket_public_access_block.this.ignore_public_acls,
      aws_s3_bucket_public_access_block.this.restrict_public_buckets,
    ])
    error_message = "public access is not blocked altogether"
  }

  assert {
    condition     = aws_s3_bucket_versioning.this.versioning_configuration[0].status == "Enabled"
    error_message = "replaced objects are gone at once"
  }

  assert {
    condition     = one(one(aws_s3_bucket_server_side_encryption_configuration.this.rule).apply_server_side_encryption_by_default).sse_algorithm == "AES256"
    error_message = "not encrypted with S3's own keys"
  }

  assert {
    condition     = one(aws_s3_bucket_ownership_controls.this.rule).object_ownership == "BucketOwnerEnforced"
    error_message = "ACLs could give objects away"
  }

  assert {
    condition     = aws_s3_bucket.this.force_destroy == false
    error_message = "a destroy would delete all bottles"
  }
}

run "the_policy_allows_nothing_by_itself" {
  command = plan

  assert {
    condition = [for statement in jsondecode(aws_s3_bucket_policy.this.policy).Statement : "${statement.Effect} ${statement.Sid}"] == [
      "Deny OnlyOverTls",
      "Deny NobodyDeletesBottles",
    ]
    error_message = "the bucket's policy says something else"
  }

  assert {
    condition = [for statement in jsondecode(aws_s3_bucket_policy.this.policy).Statement : statement if statement.Sid == "NobodyDeletesBottles"] == [{
      Sid       = "NobodyDeletesBottles"
      Effect    = "Deny"
      Principal = "*"
      Action    = ["s3:DeleteObject", "s3:DeleteObjectVersion"]
      Resource  = ["arn:aws:s3:::bottles-test-123456789012/v2/*"]
    }]
    error_message = "somebody may delete a bottle"
  }
}

run "nothing_current_expires_but_what_has_the_tag" {
  # What a rule leaves out is known once it is applied.
  command = apply

  assert {
    condition = [
      for rule in aws_s3_bucket_lifecycle_configuration.this.rule : rule.id
      if anytrue([for expiration in rule.expiration : coalesce(expiration.days, 0) > 0 || expiration.date != null])
    ] == ["expire-superseded-bottles"]
    error_message = "another rule than that of superseded bottles expires current objects"
  }

  # By the tag alone, and below no prefix: copies under flat names carry it as well.
  assert {
    condition = alltrue([
      for rule in aws_s3_bucket_lifecycle_configuration.this.rule :
      one(one(rule.filter).tag).key == "superseded" && one(one(rule.filter).tag).value == "true" && one(rule.expiration).days == 90
      if rule.id == "expire-superseded-bottles"
    ])
    error_message = "superseded bottles expire by another tag or time, or below one prefix alone"
  }

  assert {
    condition = [
      for rule in aws_s3_bucket_lifecycle_configuration.this.rule : rule.id
      if anytrue([for expiration in rule.expiration : coalesce(expiration.expired_object_delete_marker, false)])
    ] == ["expire-noncurrent-versions"]
    error_message = "markers of what has expired stay for ever, or a rule counts them with days"
  }

  assert {
    condition = anytrue([
      for rule in aws_s3_bucket_lifecycle_configuration.this.rule :
      anytrue([for abort in rule.abort_incomplete_multipart_upload : abort.days_after_initiation <= 7])
    ])
    error_message = "uploads that were never completed are paid for for ever"
  }

  assert {
    condition     = alltrue([for rule in aws_s3_bucket_lifecycle_configuration.this.rule : rule.status == "Enabled"])
    error_message = "a rule is switched off"
  }
}

run "readers_get_what_is_for_clients_and_nothing_else" {
  command = plan

  variables {
    enable_cdn              = true
    cdn_distribution_arn    = "arn:aws:cloudfront::123456789012:distribution/E1"
    reader_vpc_endpoint_ids = ["vpce-0123456789abcdef0"]
  }

  assert {
    condition = alltrue([
      for statement in jsondecode(aws_s3_bucket_policy.this.policy).Statement :
      statement.Action == "s3:GetObject" && statement.Resource == [
        "arn:aws:s3:::bottles-test-123456789012/api/*",
        "arn:aws:s3:::bottles-test-123456789012/v2/*",
      ]
      if statement.Effect == "Allow"
    ])
    error_message = "somebody may do more than read api/ and v2/"
  }

  assert {
    condition = [for statement in jsondecode(aws_s3_bucket_policy.this.policy).Statement : statement.Condition if statement.Effect == "Allow"] == [
      { StringEquals = { "aws:SourceArn" = "arn:aws:cloudfront::123456789012:distribution/E1" } },
      { StringEquals = { "aws:SourceVpce" = ["vpce-0123456789abcdef0"] } },
    ]
    error_message = "a reader is not held to the distribution or the endpoints"
  }
}

run "flat_names_are_for_clients_where_they_are_kept" {
  command = plan

  variables {
    enable_flat_names       = true
    enable_cdn              = true
    cdn_distribution_arn    = "arn:aws:cloudfront::123456789012:distribution/E1"
    reader_vpc_endpoint_ids = ["vpce-0123456789abcdef0"]
  }

  assert {
    condition = alltrue([
      for statement in jsondecode(aws_s3_bucket_policy.this.policy).Statement :
      statement.Action == "s3:GetObject" && statement.Resource == [
        "arn:aws:s3:::bottles-test-123456789012/api/*",
        "arn:aws:s3:::bottles-test-123456789012/v2/*",
        "arn:aws:s3:::bottles-test-123456789012/*.bottle.*tar.gz",
        "arn:aws:s3:::bottles-test-123456789012/*/manifests/*",
      ]
      if statement.Effect == "Allow"
    ])
    error_message = "somebody may read something else than what is for clients"
  }

  # What the wide patterns could give away is denied to the same readers.
  assert {
    condition = [
      for statement in jsondecode(aws_s3_bucket_policy.this.policy).Statement : "${statement.Sid} ${join(" ", statement.Resource)} ${jsonencode(statement.Condition)}"
      if statement.Effect == "Deny" && statement.Action == "s3:GetObject"
      ] == [
      "CdnNeverReadsState arn:aws:s3:::bottles-test-123456789012/_sync/* {\"StringEquals\":{\"aws:SourceArn\":\"arn:aws:cloudfront::123456789012:distribution/E1\"}}",
      "VpcNeverReadsStateWithoutCredentials arn:aws:s3:::bottles-test-123456789012/_sync/* {\"StringEquals\":{\"aws:PrincipalType\":\"Anonymous\",\"aws:SourceVpce\":[\"vpce-0123456789abcdef0\"]}}",
    ]
    error_message = "readers of flat names may read _sync/"
  }

  assert {
    condition = [for statement in jsondecode(aws_s3_bucket_policy.this.policy).Statement : statement.Resource if statement.Sid == "NobodyDeletesBottles"] == [[
      "arn:aws:s3:::bottles-test-123456789012/v2/*",
      "arn:aws:s3:::bottles-test-123456789012/*.bottle.*tar.gz",
      "arn:aws:s3:::bottles-test-123456789012/*/manifests/*",
    ]]
    error_message = "somebody may delete a bottle's flat copy"
  }
}

run "flat_names_alone_let_nobody_read" {
  command = plan

  variables {
    enable_flat_names = true
  }

  assert {
    condition     = alltrue([for statement in jsondecode(aws_s3_bucket_policy.this.policy).Statement : statement.Effect == "Deny"])
    error_message = "somebody may read the bucket"
  }
}

run "replication_keeps_what_is_deleted" {
  command = plan

  variables {
    enable_replication = true
  }

  assert {
    condition     = one(one(aws_s3_bucket_replication_configuration.this[0].rule).delete_marker_replication).status == "Disabled"
    error_message = "what is deleted here is deleted there"
  }

  assert {
    condition = alltrue(flatten([
      for statement in jsondecode(aws_iam_role_policy.replication[0].policy).Statement : [
        for resource in statement.Resource : startswith(resource, "arn:aws:s3:::bottles-test-123456789012")
      ]
    ]))
    error_message = "the replication's role reaches other buckets"
  }

  assert {
    condition     = length(aws_s3_bucket_public_access_block.replica) == 1 && length(aws_s3_bucket_policy.replica) == 1
    error_message = "the replica is not private"
  }
}

run "replication_needs_versions" {
  command = plan

  variables {
    enable_versioning  = false
    enable_replication = true
  }

  expect_failures = [var.enable_replication]
}

run "a_key_belongs_to_one_region" {
  command = plan

  variables {
    enable_replication = true
    kms_key_arn        = "arn:aws:kms:eu-west-1:123456789012:key/1"
  }

  expect_failures = [var.replica_kms_key_arn]
}

run "anonymous_readers_cant_decrypt" {
  command = plan

  variables {
    kms_key_arn             = "arn:aws:kms:eu-west-1:123456789012:key/1"
    reader_vpc_endpoint_ids = ["vpce-0123456789abcdef0"]
  }

  expect_failures = [var.reader_vpc_endpoint_ids]
}

run "an_alias_is_no_key" {
  command = plan

  variables {
    kms_key_arn = "alias/bottles"
  }

  expect_failures = [var.kms_key_arn]
}

run "a_bucket_does_not_log_into_itself" {
  command = plan

  variables {
    access_log_bucket = "bottles-test-123456789012"
  }

  expect_failures = [var.access_log_bucket]
}

run "a_grace_of_a_day_is_none" {
  command = plan

  variables {
    superseded_expiration_days = 1
  }

  expect_failures = [var.superseded_expiration_days]
}
