#!/usr/bin/env bash
# Tests deploy.sh against programs that stand in for terraform, aws, docker and
# git: each writes down how it was called, and answers as a small world of files
# says. One line a case; exits 1 if one failed. It takes none of the real
# programs; without python3 the cases that need a terminal are skipped.
#
#   scripts/test-deploy.sh             # all
#   scripts/test-deploy.sh image       # those with this in their names
#
# deploy.sh runs in the bash that runs this: /bin/bash scripts/test-deploy.sh on
# a mac tests it in 3.2.
set -euo pipefail
cd "$(dirname "$0")"
only=${1-}

work=$(cd "$(mktemp -d)" && pwd -P)
trap 'rm -rf "$work"' EXIT
bin=$work/bin
world=$work/world
project=$work/project
tmp=$work/tmp
python=$(command -v python3 || true)

# ---- the stand-ins

mkdir -p "$bin"
# The stand-ins and what every system has, nothing else: a real aws is not found
# where a case has none.
for program in awk cat chmod cut date dirname env grep ls mkdir mktemp rm sed touch tr; do
    ln -s "$(command -v "$program")" "$bin/$program"
done
ln -s "$BASH" "$bin/bash"

stand_in() {
    { printf '#!%s\n' "$BASH"; cat; } >"$bin/$1"
    chmod +x "$bin/$1"
}

stand_in terraform <<'PROGRAM'
world=$WORLD
arguments=" $* "
# -no-color is in each call that writes to a file: left out, the cases read better.
recorded=${arguments/ -no-color / }
echo "terraform${recorded% }" >>"$world/calls"
echo "$arguments" >>"$world/colours"
[ "${1#-chdir=}" = "$1" ] || { cd "${1#-chdir=}"; shift; }
# What it was given beside its arguments.
echo "$1 TF_DATA_DIR=${TF_DATA_DIR-} slack=${TF_VAR_slack_webhook_url-} init=${TF_CLI_ARGS_init-}" >>"$world/environment"
case $1 in
    version) printf '{\n  "terraform_version": "%s",\n  "platform": "any"\n}\n' "$(cat "$world/terraform-version")" ;;
    plan)
        [ ! -f "$world/plan-fails" ] || exit "$(cat "$world/plan-fails")"
        for argument in "$@"; do
            case $argument in
                -out=*)
                    ls -ld "$(dirname "${argument#-out=}")" | cut -c1-10 >"$world/plan-folder"
                    echo secret >"${argument#-out=}"
                    ;;
            esac
        done
        echo "the plan"
        ;;
    apply)
        case $arguments in
            *" -target="*)
                touch "$world/repository"
                ;;
            *)
                for last in "$@"; do :; done
                [ -f "$last" ] || { echo "there is no plan $last" >&2; exit 1; }
                ;;
        esac
        ;;
    output)
        if [ -f "$world/repository" ]; then
            printf %s 111122223333.dkr.ecr.eu-west-1.amazonaws.com/bottles/dev
        else
            echo "Warning: No outputs found"
        fi
        ;;
    fmt) [ ! -f "$world/unformatted" ] || { echo main.tf; exit 3; } ;;
esac
PROGRAM

stand_in aws <<'PROGRAM'
world=$WORLD
[ "$1" = --version ] || echo "aws $*" >>"$world/calls"
case "$1 ${2-}" in
    "--version ") echo "aws-cli/2.0" ;;
    "sts get-caller-identity")
        [ ! -f "$world/no-credentials" ] || { echo "Unable to locate credentials" >&2; exit 253; }
        printf '111122223333\tarn:%s:iam::111122223333:user/somebody\n' "$(cat "$world/partition")"
        ;;
    "s3api head-bucket")
        if [ -f "$world/head-bucket" ]; then
            echo "An error occurred ($(cat "$world/head-bucket")) when calling the HeadBucket operation: No" >&2
            exit 254
        fi
        [ -f "$world/bucket" ] || {
            echo "An error occurred (404) when calling the HeadBucket operation: Not Found" >&2
            exit 254
        }
        ;;
    "s3api get-bucket-encryption") [ ! -f "$world/key" ] || echo '{"SSEAlgorithm": "aws:kms"}' ;;
    "s3api get-bucket-policy")
        [ -f "$world/policy" ] || { echo "An error occurred (NoSuchBucketPolicy)" >&2; exit 254; }
        cat "$world/policy"
        ;;
    "s3api create-bucket") touch "$world/bucket" ;;
    "s3api put-bucket-versioning") [ ! -f "$world/versioning-fails" ] || { echo "AccessDenied" >&2; exit 254; } ;;
    "ecr describe-images")
        if [ -f "$world/ecr-error" ]; then cat "$world/ecr-error" >&2; exit 254; fi
        if [ ! -f "$world/image" ]; then
            echo "An error occurred (ImageNotFoundException) when calling the DescribeImages operation" >&2
            exit 254
        fi
        echo sha256:0000
        ;;
    "ecr get-login-password") echo the-password ;;
esac
PROGRAM

stand_in docker <<'PROGRAM'
echo "docker $*" >>"$WORLD/calls"
case $1 in
    info) [ ! -f "$WORLD/no-daemon" ] || exit 1 ;;
    login) cat >"$WORLD/password" ;;
    build) [ -f "$5" ] || { echo "there is no $5" >&2; exit 1; } ;;
    push) touch "$WORLD/image" ;;
esac
PROGRAM

stand_in git <<'PROGRAM'
[ ! -f "$WORLD/no-git" ] || { echo "fatal: not a git repository" >&2; exit 128; }
case $1 in
    rev-parse) echo 0123456789abcdef0123456789abcdef01234567 ;;
    status) [ ! -f "$WORLD/dirty" ] || echo " M README.md" ;;
esac
PROGRAM
mkdir "$work/programs"
cp "$bin/aws" "$bin/docker" "$bin/terraform" "$work/programs"

# on-terminal PROMPT ANSWER COMMAND...: runs it on a terminal of its own, and
# types the answer once the prompt shows.
cat >"$work/on-terminal.py" <<'PYTHON'
import os, pty, signal, sys

prompt, answer, command = sys.argv[1].encode(), sys.argv[2].encode(), sys.argv[3:]
child, terminal = pty.fork()
if child == 0:
    # Ignored where a shell began us in its background, and then in all of ours.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.execvp(command[0], command)
signal.alarm(60)
shown, typed = b"", False
while True:
    try:
        read = os.read(terminal, 4096)
    except OSError:  # how Linux tells that the other end is closed
        break
    if not read:
        break
    shown += read
    if prompt in shown and not typed:
        typed = True
        os.write(terminal, answer + b"\n")
sys.stdout.write(shown.decode().replace("\r\n", "\n"))
sys.stdout.flush()
status = os.waitpid(child, 0)[1]
sys.exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))
PYTHON

# ---- cases

# A project whose state's bucket, repository and packages are there.
fresh() {
    rm -rf "$world" "$project" "$tmp"
    mkdir -p "$world" "$project/scripts" "$project/terraform" "$project/build" "$project/consumer-ecs" "$tmp"
    cp deploy.sh deploy-dev.sh deploy-staging.sh deploy-prod.sh "$project/scripts"
    cat >"$project/scripts/build-lambda-packages.sh" <<'PROGRAM'
#!/usr/bin/env bash
echo "build-lambda-packages.sh $*" >>"$WORLD/calls"
touch build/producer.zip build/consumer-lambda.zip
PROGRAM
    chmod +x "$project/scripts/build-lambda-packages.sh"
    touch "$project/consumer-ecs/Dockerfile" "$project/build/producer.zip" "$project/build/consumer-lambda.zip"
    local environment
    for environment in dev staging prod; do
        echo 'aws_region = "eu-west-1"' >"$project/terraform/$environment.tfvars"
    done
    touch "$world/calls" "$world/environment" "$world/bucket" "$world/repository"
    echo 1.11.4 >"$world/terraform-version"
    echo aws >"$world/partition"
    cp "$work/programs/"* "$bin"
    variables=(WORLD="$world")
}

tfvars() { cat >>"$project/terraform/${1:-dev}.tfvars"; }
given() { variables+=("$@"); }

# Runs a script of the project from another folder, with this environment alone.
run() {
    local script=$1
    shift
    finish env -i PATH="$bin" HOME="$work" TMPDIR="$tmp" "${variables[@]}" \
        "$project/scripts/$script" "$@"
}
deploy() { run deploy.sh "$@"; }

# deploy_and_type PROMPT ANSWER OPTIONS...
deploy_and_type() {
    local prompt=$1 typed=$2
    shift 2
    finish "$python" "$work/on-terminal.py" "$prompt" "$typed" \
        env -i PATH="$bin" HOME="$work" TMPDIR="$tmp" "${variables[@]}" "$project/scripts/deploy.sh" "$@"
}

finish() {
    status=0
    (cd "$work" && "$@") >"$work/out" 2>"$work/err" </dev/null || status=$?
    [ -z "$(ls -A "$tmp")" ] || problem "it left something in the temporary folder"
}

problem() { problems="$problems
     $*"; }
exits() { [ "$status" -eq "$1" ] || problem "exit $status, not $1: $(cat "$work/err")"; }
says() { cat "$work/out" "$work/err" | grep -qF -- "$1" || problem "it does not say: $1"; }
says_not() { ! cat "$work/out" "$work/err" | grep -qF -- "$1" || problem "it says: $1"; }
complains() { grep -qF -- "$1" "$work/err" || problem "not on stderr: $1"; }
calls() { grep -qF -- "$1" "$world/calls" || problem "never called: $1"; }
never_calls() { ! grep -qF -- "$1" "$world/calls" || problem "called: $(grep -F -- "$1" "$world/calls")"; }
calls_nothing() { [ ! -s "$world/calls" ] || problem "called: $(cat "$world/calls")"; }
# calls_in_order TEXT...: each in a later call than the one before.
calls_in_order() {
    local text line=0 found
    for text in "$@"; do
        found=$(awk -v text="$text" -v after="$line" 'NR > after && index($0, text) { print NR; exit }' "$world/calls")
        if [ -z "$found" ]; then
            problem "not called, or not in this order: $text"
            return
        fi
        line=$found
    done
}
changes_nothing() {
    never_calls create-bucket
    never_calls "s3api put"
    never_calls " apply"
    never_calls "docker build"
    never_calls "docker push"
}
# refused WORDS OPTIONS...: exit 2, with these words, before anything is called.
refused() {
    local words=$1
    shift
    fresh
    deploy "$@"
    [ "$status" -eq 2 ] || problem "exit $status, not 2, for: $*"
    complains "$words"
    calls_nothing
}

passed=0
failed=0
skipped=0
it() {
    case $1 in *"$only"*) ;; *) return 0 ;; esac
    fresh
    problems=
    "$2"
    if [ -z "$problems" ]; then
        passed=$((passed + 1))
        echo "ok   $1"
    else
        failed=$((failed + 1))
        echo "FAIL $1$problems"
    fi
}
it_on_a_terminal() {
    if [ -n "$python" ]; then
        it "$@"
    else
        case $1 in *"$only"*) ;; *) return 0 ;; esac
        skipped=$((skipped + 1))
        echo "skip $1: it takes python3 to make a terminal"
    fi
}

the_tag=111122223333.dkr.ecr.eu-west-1.amazonaws.com/bottles/dev:0123456789ab
state=terraform-state-111122223333-eu-west-1

# -- the command line

usage_errors() {
    refused "-e is missing"
    complains "usage: scripts/deploy.sh"
    refused "-e is missing" -a
    refused "not production" -e production
    refused "there is no option -x" -e dev -x
    complains "usage: scripts/deploy.sh"
    refused "there is no option --force" -e dev --force
    refused "there is no option dev" dev
    refused "-e takes an environment" -a -e
    refused "--region takes a region" -e dev --region
}
it "what is no command line is refused with the usage on stderr" usage_errors

conflicts() {
    refused "give one of them" -e dev -p -a
    refused "give one of them" -e dev -d -p -a
    local option
    for option in -p -a -d -v --build --confirm-destroy-prod; do
        refused "-i does one thing" -e dev -i "$option"
    done
    for option in -p -a -d --build --confirm-destroy-prod; do
        refused "-v does one thing" -e dev -v "$option"
    done
    refused "leave --build away" -e dev -d --build
    refused "-d is not given" -e prod -a --confirm-destroy-prod
    refused "give --confirm-destroy-prod too" -e prod -d -a
}
it "options that contradict each other are refused" conflicts

two_environments() {
    run deploy-dev.sh -e prod -a
    exits 2
    complains "two environments are named: dev and prod"
    calls_nothing
}
it "deploy-dev.sh can't be talked into prod" two_environments

bad_region() {
    deploy -e dev -p -r ../eu
    exits 2
    complains "the region is a name"
    never_calls aws
}
it "a region that is none is refused" bad_region

help() {
    local script
    for script in deploy.sh deploy-dev.sh deploy-staging.sh deploy-prod.sh; do
        run "$script" --help
        exits 0
        grep -q '^usage: scripts/deploy.sh' "$work/out" || problem "no usage on stdout"
    done
    calls_nothing
}
it "--help works for each script" help

wrappers() {
    local environment
    for environment in dev staging prod; do
        fresh
        run "deploy-$environment.sh" --plan-only
        exits 0
        calls "plan -input=false -var-file=$environment.tfvars -var environment=$environment"
    done
}
it "each environment's script deploys that one" wrappers

spellings() {
    deploy --environment=dev --region=us-west-2 --plan-only
    exits 0
    calls "-var aws_region=us-west-2"
    deploy -ap -edev
    exits 2
    complains "give one of them"
    deploy -edev -rus-west-1 -p
    exits 0
    calls "-var aws_region=us-west-1"
}
it "options can be written as getopts takes them, and with =" spellings

# -- checks

no_terraform() {
    rm "$bin/terraform"
    deploy -e dev -a
    exits 1
    complains "terraform is not installed"
    calls_nothing
}
it "no terraform is said so" no_terraform

old_terraform() {
    local version
    for version in 1.10.5 1.9.8 0.12.31; do
        echo "$version" >"$world/terraform-version"
        deploy -e dev -a
        exits 1
        complains "terraform $version is too old"
    done
    never_calls aws
    for version in 1.11.0 1.12.2 2.0.0; do
        echo "$version" >"$world/terraform-version"
        deploy -e dev -p
        exits 0
    done
}
it "terraform is 1.11 or later" old_terraform

no_aws() {
    rm "$bin/aws"
    deploy -e dev -a
    exits 1
    complains "the AWS CLI is not installed"
    never_calls init
}
it "no aws is said so" no_aws

no_credentials() {
    rm "$world/bucket" "$project/build/producer.zip"
    touch "$world/no-credentials"
    deploy -e dev -a
    exits 1
    complains "aws sso login"
    complains "Unable to locate credentials"
    never_calls s3api
    never_calls init
    never_calls build-lambda
}
it "without credentials nothing is changed" no_credentials

no_tfvars() {
    rm "$project/terraform/dev.tfvars"
    deploy -e dev -a
    exits 1
    complains "terraform/dev.tfvars is missing"
    never_calls aws
}
it "an environment without its tfvars is refused" no_tfvars

no_git() {
    rm "$world/bucket"
    touch "$world/no-git"
    deploy -e dev -a
    exits 1
    complains "set ecs_container_image"
    changes_nothing
}
it "outside git an image must be named, and nothing is changed" no_git

# -- the region and the variables

regions() {
    deploy -e dev -r eu-north-1 -p
    calls "-var aws_region=eu-north-1"
    given AWS_REGION=ap-south-1
    deploy -e dev -p
    calls "-var aws_region=eu-west-1"
    echo >"$project/terraform/dev.tfvars"
    deploy -e dev -p
    calls "-var aws_region=ap-south-1"
    fresh
    echo >"$project/terraform/dev.tfvars"
    echo 'aws_region = "sa-east-1"' >"$project/terraform/terraform.tfvars"
    deploy -e dev -p
    exits 0
    calls "-var aws_region=us-east-1"
    calls "sts get-caller-identity --region us-east-1"
}
it "the region is -r's, else the tfvars', else AWS_REGION, else us-east-1" regions

local_tfvars() {
    tfvars <<<'ecs_container_image = "example.com/common:1"'
    tfvars dev.local <<'TEXT'
aws_region          = "eu-south-1"
ecs_container_image = "example.com/local:2"
TEXT
    deploy -e dev -p
    exits 0
    calls "plan -input=false -var-file=dev.tfvars -var-file=dev.local.tfvars -var environment=dev -var aws_region=eu-south-1 -var ecs_container_image=example.com/local:2"
    tfvars staging <<<'ecs_container_image = "example.com/staging:1"'
    deploy -e staging -p
    exits 0
    calls "plan -input=false -var-file=staging.tfvars -var environment=staging"
}
it "local tfvars win, and only in their environment" local_tfvars

local_empty() {
    tfvars <<<'ecs_container_image = "example.com/common:1"'
    tfvars dev.local <<<'ecs_container_image = ""'
    deploy -e dev -p
    calls "-var ecs_container_image=$the_tag"
}
it "an empty value in local tfvars wins too" local_empty

tfvars_syntax() {
    cat >"$project/terraform/dev.tfvars" <<'TEXT'
# aws_region = "comment-1"
/* aws_region = "comment-2"
aws_region = "comment-3" */
selection = <<-TOML
  aws_region = "heredoc-1"
  tags = [ # never closed
  TOML
tags = {
  aws_region = "nested-1" # }
}
my_aws_region = "other-1"
  aws_region   =   "eu-central-2"   // with a comment
TEXT
    deploy -e dev -p
    exits 0
    calls "-var aws_region=eu-central-2"
    fresh
    printf 'aws_region="eu-central-1"\r\necs_container_image = null\r\n' >"$project/terraform/dev.tfvars"
    deploy -e dev -p
    exits 0
    calls "-var aws_region=eu-central-1"
    calls "-var ecs_container_image=$the_tag"
}
it "tfvars are read as Terraform reads them" tfvars_syntax

tfvars_unreadable() {
    tfvars <<<'project_name = "a\tb"'
    deploy -e dev -a
    exits 1
    complains "terraform/dev.tfvars: project_name can't be read"
    never_calls aws
}
it "a value that can't be read is not guessed" tfvars_unreadable

data_folders() {
    deploy -e dev -p
    deploy -e staging -p
    deploy -e dev -r us-west-2 -p
    local folder
    for folder in dev-eu-west-1 staging-eu-west-1 dev-us-west-2; do
        grep -qF "plan TF_DATA_DIR=$project/terraform/.terraform-$folder " "$world/environment" ||
            problem "no plan in .terraform-$folder"
    done
    given TF_DATA_DIR=/somewhere/else TF_CLI_ARGS_init=-upgrade
    deploy -e dev -p
    grep -qF "plan TF_DATA_DIR=/somewhere/else " "$world/environment" || problem "TF_DATA_DIR is not heeded"
    grep -q "^init .* init=-upgrade" "$world/environment" || problem "TF_CLI_ARGS_init does not pass through"
}
it "each environment and region has a folder of Terraform's own" data_folders

# -- the state's bucket

new_bucket() {
    rm "$world/bucket"
    deploy -e dev -i
    exits 0
    calls_in_order \
        "head-bucket --region eu-west-1 --bucket $state --expected-bucket-owner 111122223333" \
        "create-bucket --region eu-west-1 --bucket $state --create-bucket-configuration LocationConstraint=eu-west-1" \
        "wait bucket-exists" \
        "put-public-access-block" \
        "put-bucket-policy" \
        "init -input=false -reconfigure"
    settles
    says "s3://$state/homebrew-bottles-sync/dev/terraform.tfstate"
}
settles() {
    calls "put-public-access-block --region eu-west-1 --bucket $state --expected-bucket-owner 111122223333 --public-access-block-configuration BlockPublicAcls=true,IgnorePublicAcls=true,BlockPublicPolicy=true,RestrictPublicBuckets=true"
    calls 'put-bucket-encryption --region eu-west-1 --bucket '"$state"' --expected-bucket-owner 111122223333 --server-side-encryption-configuration {"Rules":[{"ApplyServerSideEncryptionByDefault":{"SSEAlgorithm":"AES256"}}]}'
    calls "put-bucket-versioning --region eu-west-1 --bucket $state --expected-bucket-owner 111122223333 --versioning-configuration Status=Enabled"
    calls '"Effect":"Deny","Principal":"*","Action":"s3:*","Resource":["arn:aws:s3:::'"$state"'","arn:aws:s3:::'"$state"'/*"],"Condition":{"Bool":{"aws:SecureTransport":"false"}}'
}
it "the state's bucket is made, settled, then used" new_bucket

first_region() {
    rm "$world/bucket"
    deploy -e dev -r us-east-1 -i
    exits 0
    calls "create-bucket --region us-east-1 --bucket terraform-state-111122223333-us-east-1"
    never_calls LocationConstraint
}
it "us-east-1 takes no location constraint" first_region

partition() {
    rm "$world/bucket"
    echo aws-cn >"$world/partition"
    deploy -e dev -r cn-north-1 -i
    calls "arn:aws-cn:s3:::terraform-state-111122223333-cn-north-1"
}
it "the bucket's policy is right in other partitions" partition

backend() {
    deploy -e prod -i
    calls "terraform -chdir=terraform init -input=false -reconfigure -backend-config=bucket=$state -backend-config=key=homebrew-bottles-sync/prod/terraform.tfstate -backend-config=region=eu-west-1 -backend-config=encrypt=true -backend-config=use_lockfile=true"
}
it "the backend is told bucket, key, encryption and locking" backend

settled_again() {
    deploy -e dev -a
    exits 0
    never_calls create-bucket
    settles
}
it "a bucket that is there is settled each time" settled_again

of_others() {
    touch "$world/key"
    echo '{"Sid":"OurAuditorsRead"}' >"$world/policy"
    deploy -e dev -i
    exits 0
    never_calls "put-bucket-encryption"
    never_calls "put-bucket-policy"
    says "does not refuse plain HTTP"
    calls "put-bucket-versioning --region eu-west-1 --bucket $state --expected-bucket-owner 111122223333 --versioning-configuration Status=Enabled"
}
it "a key and a policy that others gave the bucket stay" of_others

interrupted() {
    rm "$world/bucket"
    touch "$world/versioning-fails"
    deploy -e dev -a
    exits 1
    complains "put-bucket-versioning"
    never_calls init
    rm "$world/versioning-fails"
    : >"$world/calls"
    deploy -e dev -a
    exits 0
    never_calls create-bucket
    settles
}
it "a creation that was interrupted is gone on with" interrupted

foreign_bucket() {
    echo 403 >"$world/head-bucket"
    deploy -e dev -a
    exits 1
    complains "belongs to another account"
    changes_nothing
    never_calls init
}
it "a state's bucket of somebody else stops it" foreign_bucket

other_answer() {
    echo 400 >"$world/head-bucket"
    deploy -e dev -a
    exits 1
    complains "An error occurred (400)"
    changes_nothing
}
it "another answer is no missing bucket" other_answer

# -- what does not apply

plan_only() {
    deploy -e dev -p
    exits 0
    says "the plan"
    changes_nothing
    never_calls -out=
}
it "-p plans and changes nothing" plan_only

plan_needs_bucket() {
    rm "$world/bucket"
    deploy -e dev -p
    exits 1
    complains "scripts/deploy.sh -e dev -r eu-west-1 -i"
    changes_nothing
    never_calls init
}
it "-p without the state's bucket says how to make it" plan_needs_bucket

plan_placeholder() {
    rm "$world/repository"
    deploy -e dev -p
    exits 0
    changes_nothing
    calls "-var ecs_container_image=111122223333.dkr.ecr.eu-west-1.amazonaws.com/homebrew-bottles-sync-dev:not-built-yet"
    says "stands in for it"
}
it "-p before the first deployment plans with a placeholder image" plan_placeholder

init_only() {
    rm -f "$project/build/"*
    deploy -e dev -i
    exits 0
    never_calls " apply"
    never_calls " plan"
    never_calls build-lambda
    never_calls docker
}
it "-i initialises and stops" init_only

validate_only() {
    rm "$bin/aws" "$bin/docker"
    given TF_DATA_DIR=/somewhere/else
    deploy -e dev -v
    exits 0
    calls_in_order "fmt -check -recursive" "init -backend=false" "validate"
    never_calls " plan"
    never_calls " apply"
    ! grep -q "^init TF_DATA_DIR=/somewhere/else" "$world/environment" || problem "it disturbs the real init"
    grep -q "^validate TF_DATA_DIR=$tmp" "$world/environment" || problem "it validates in no folder of its own"
    deploy -v
    exits 0
    touch "$world/unformatted"
    deploy -e dev -v
    exits 1
    complains "fmt -recursive"
}
it "-v needs no AWS, and has a folder of its own" validate_only

colours() {
    deploy -e dev -p
    ! grep -vE ' version | -no-color ' "$world/colours" || problem "it colours a log"
    if [ -n "$python" ]; then
        rm "$world/colours"
        deploy_and_type "[y/N]" n -e dev
        grep -q " plan -input" "$world/colours" || problem "it colours no terminal"
    fi
}
it "Terraform colours what it writes to a terminal, and no log" colours

plan_fails() {
    echo 7 >"$world/plan-fails"
    deploy -e dev -a
    exits 7
    never_calls " apply"
    deploy -e dev -p
    exits 7
}
it "a plan that fails passes its exit code on" plan_fails

# -- apply

approved() {
    tfvars <<<'ecs_container_image = "example.com/image:1"'
    deploy -e dev -a
    exits 0
    calls_in_order "plan -input=false -out=" "apply -input=false $tmp"
    [ "$(cat "$world/plan-folder")" = drwx------ ] || problem "others can read the plan"
}
it "-a plans and applies that plan" approved

no_terminal() {
    rm "$world/bucket" "$project/build/producer.zip"
    deploy -e dev
    exits 2
    complains "there is no terminal to ask on"
    never_calls aws
    never_calls build-lambda
    deploy -e dev -d
    exits 2
    complains "there is no terminal to ask on"
    never_calls aws
}
it "without a terminal and -a it refuses before anything else" no_terminal

asked_yes() {
    deploy_and_type "[y/N]" y -e dev
    exits 0
    says "Apply this to dev in account 111122223333, eu-west-1? [y/N]"
    calls_in_order "plan -input=false -out=" "apply -input=false $tmp"
}
it_on_a_terminal "it asks, and y applies" asked_yes

asked_no() {
    local typed
    for typed in "" n no maybe; do
        : >"$world/calls"
        deploy_and_type "[y/N]" "$typed" -e dev
        exits 1
        says "deploy.sh: not applied"
        calls "plan -input=false -out="
        never_calls " apply"
    done
}
it_on_a_terminal "any other answer applies nothing" asked_no

interrupted_at_question() {
    deploy_and_type "[y/N]" "$(printf '\003')" -e dev
    exits 130
    never_calls " apply"
}
it_on_a_terminal "an interrupt at the question applies nothing, and leaves no plan" interrupted_at_question

slack() {
    given SLACK_WEBHOOK_URL=https://hooks.slack.test/services/T0/B0/verysecret
    rm "$world/bucket" "$world/repository" "$project/build/producer.zip"
    deploy -e dev -a
    exits 0
    never_calls hooks.slack
    says_not hooks.slack
    local verb
    for verb in plan apply; do
        grep -q "^$verb .* slack=https://hooks.slack.test/services/T0/B0/verysecret" "$world/environment" ||
            problem "$verb does not know it"
    done
    ! grep -rq hooks.slack "$project" || problem "it is in a file"
}
it "the URL for Slack is in the environment alone, at plan and at apply" slack

no_slack() {
    given SLACK_WEBHOOK_URL= TF_VAR_slack_webhook_url=https://kept.test
    deploy -e dev -a
    grep -q "^apply .* slack=https://kept.test" "$world/environment" || problem "the variable was touched"
}
it "without a URL for Slack Terraform's own variable stays" no_slack

# -- packages

packages_there() {
    deploy -e dev -p
    never_calls build-lambda
    says "used as they are"
}
it "packages that are there are used, and it says so" packages_there

packages_missing() {
    rm "$project/build/consumer-lambda.zip"
    deploy -e dev -a
    exits 0
    grep -qx "build-lambda-packages.sh " "$world/calls" || problem "they were not built for x86_64"
    calls_in_order build-lambda-packages.sh "plan -input=false"
}
it "missing packages are built" packages_missing

packages_forced() {
    tfvars <<<'lambda_architecture = "arm64"'
    deploy -e dev -p --build
    exits 0
    calls "build-lambda-packages.sh --arm64"
}
it "--build builds anew, for the architecture of the tfvars" packages_forced

packages_bad_architecture() {
    tfvars <<<'lambda_architecture = "aarch64"'
    deploy -e dev -a --build
    exits 1
    complains "x86_64 or arm64, not 'aarch64'"
    changes_nothing
}
it "an architecture that Lambda lacks is refused" packages_bad_architecture

packages_elsewhere() {
    rm -f "$project/build/"*
    tfvars <<'TEXT'
lambda_orchestrator_zip_path = "/packages/producer.zip"
lambda_sync_zip_path         = "/packages/consumer-lambda.zip"
TEXT
    deploy -e dev -p
    exits 0
    never_calls build-lambda
    fresh
    rm -f "$project/build/"*
    tfvars <<'TEXT'
lambda_orchestrator_zip_path = "../build/producer.zip"
lambda_sync_zip_path         = "/packages/consumer-lambda.zip"
TEXT
    deploy -e dev -p
    calls build-lambda-packages.sh
}
it "packages that are named elsewhere are not built" packages_elsewhere

# -- the image

image_named() {
    tfvars <<<'ecs_container_image = "example.com/image:1"'
    rm "$bin/docker" "$world/repository"
    touch "$world/no-git"
    deploy -e dev -a
    exits 0
    calls "-var ecs_container_image=example.com/image:1"
    never_calls " ecr "
    never_calls -target
}
it "image: one that is named is used" image_named

image_from_environment() {
    given TF_VAR_ecs_container_image=example.com/image:2
    deploy -e dev -a
    exits 0
    calls "-var ecs_container_image=example.com/image:2"
}
it "image: TF_VAR_ecs_container_image names one too" image_from_environment

image_there() {
    touch "$world/image"
    rm "$bin/docker"
    deploy -e dev -a
    exits 0
    calls "describe-images --region eu-west-1 --repository-name bottles/dev --image-ids imageTag=0123456789ab"
    calls "-var ecs_container_image=$the_tag"
    never_calls -target
}
it "image: what is in ECR is not built again" image_there

image_built() {
    rm "$world/repository"
    deploy -e dev -a
    exits 0
    calls_in_order \
        "apply -auto-approve -input=false -target=module.ecs.aws_ecr_repository.this -target=module.ecs.aws_ecr_lifecycle_policy.this -var-file=dev.tfvars -var environment=dev -var aws_region=eu-west-1" \
        "ecr describe-images" \
        "docker info" \
        "docker build --platform linux/amd64 -f consumer-ecs/Dockerfile -t $the_tag ." \
        "docker push $the_tag" \
        "plan -input=false -out="
    calls "docker login --username AWS --password-stdin 111122223333.dkr.ecr.eu-west-1.amazonaws.com"
    [ "$(cat "$world/password")" = the-password ] || problem "docker got no password"
    never_calls the-password
    says_not the-password
    calls "-var ecs_container_image=$the_tag"
}
it "image: repository, then build and push, then the plan" image_built

image_repository_gone() {
    echo "An error occurred (RepositoryNotFoundException)" >"$world/ecr-error"
    deploy -e dev -a
    exits 1
    calls -target=module.ecs.aws_ecr_repository.this
    never_calls "docker build"
}
it "image: a repository that went missing is made again" image_repository_gone

image_denied() {
    echo "An error occurred (AccessDeniedException)" >"$world/ecr-error"
    deploy -e dev -a
    exits 1
    complains AccessDeniedException
    never_calls " apply"
    never_calls docker
}
it "image: another answer of ECR stops it" image_denied

image_asks() {
    rm "$world/repository"
    deploy_and_type "[y/N]" y -e dev
    exits 0
    calls "apply -target=module.ecs.aws_ecr_repository.this"
    never_calls -auto-approve
}
it_on_a_terminal "image: without -a Terraform itself asks for the repository" image_asks

image_no_docker() {
    rm "$world/repository" "$bin/docker"
    deploy -e dev -a
    exits 1
    complains "Docker is not installed here"
    complains "aws ecr get-login-password --region eu-west-1 | docker login --username AWS --password-stdin 111122223333.dkr.ecr.eu-west-1.amazonaws.com"
    complains "docker build --platform linux/amd64 -f consumer-ecs/Dockerfile -t $the_tag ."
    complains "docker push $the_tag"
    complains "in a checkout of 0123456789ab:"
    complains ecs_container_image
    calls -target=
    never_calls " plan"
    never_calls "apply -input=false $tmp"
}
it "image: without Docker it says what to run, and deploys nothing" image_no_docker

image_no_daemon() {
    touch "$world/no-daemon"
    deploy -e dev -a
    exits 1
    complains "daemon does not answer"
    never_calls " apply"
    never_calls "docker build"
}
it "image: a Docker without its daemon is none" image_no_daemon

image_dirty() {
    touch "$world/dirty"
    deploy -e dev -a
    exits 0
    grep -Eq -- "docker push $the_tag-dirty-20[0-9]{12}$" "$world/calls" || problem "no tag with -dirty and the time"
    grep -Eq -- "plan .*-var ecs_container_image=$the_tag-dirty-20[0-9]{12}$" "$world/calls" || problem "another tag is deployed"
    touch "$world/no-daemon"
    rm "$world/image"
    deploy -e dev -a
    exits 1
    complains "Commit them first"
}
it "image: changes that are not committed show in the tag" image_dirty

image_arm() {
    tfvars <<<'ecs_cpu_architecture = "ARM64"'
    deploy -e dev -a
    exits 0
    calls "docker build --platform linux/arm64 -f consumer-ecs/Dockerfile -t $the_tag-arm64 ."
    fresh
    tfvars <<<'ecs_cpu_architecture = "arm"'
    deploy -e dev -a
    exits 1
    complains "X86_64 or ARM64, not 'arm'"
    changes_nothing
}
it "image: for ARM64 it is built so, and under a tag of its own" image_arm

# -- destroy

destroy_right() {
    deploy_and_type "full name" homebrew-bottles-sync-dev -e dev -d
    exits 0
    calls_in_order "plan -destroy -input=false -out=" "apply -input=false $tmp"
    never_calls docker
    never_calls -target
    never_calls build-lambda
    says "s3_force_destroy is not true"
    says "dead letters"
    says "KMS keys are only scheduled for deletion"
    says "state's bucket $state"
}
it_on_a_terminal "-d deletes once the full name is typed" destroy_right

destroy_wrong() {
    local typed
    for typed in "" y dev homebrew-bottles-sync homebrew-bottles-sync-prod; do
        : >"$world/calls"
        deploy_and_type "full name" "$typed" -e dev -d
        exits 1
        says "nothing was deleted"
        never_calls " apply"
    done
}
it_on_a_terminal "-d with another name typed deletes nothing" destroy_wrong

destroy_name() {
    tfvars <<<'project_name = "team-bottles"'
    deploy_and_type "full name" homebrew-bottles-sync-dev -e dev -d
    exits 1
    never_calls " apply"
    deploy_and_type "full name" team-bottles-dev -e dev -d
    exits 0
    calls "apply -input=false $tmp"
}
it_on_a_terminal "-d asks for the project's own name" destroy_name

destroy_approved() {
    rm -f "$project/build/"*
    touch "$world/no-git"
    tfvars <<<'s3_force_destroy = true'
    deploy -e dev -d -a
    exits 0
    says "the bucket with all its bottles, and its replica"
    calls "-var ecs_container_image=111122223333.dkr.ecr.eu-west-1.amazonaws.com/homebrew-bottles-sync-dev:not-built-yet"
    calls_in_order "plan -destroy" "apply -input=false $tmp"
    never_calls build-lambda
}
it "-d -a asks nothing, and needs neither packages nor git" destroy_approved

destroy_prod() {
    deploy -e prod -d -a
    exits 2
    calls_nothing
    run deploy-prod.sh -d -a --confirm-destroy-prod
    exits 0
    calls "apply -input=false $tmp"
}
it "-d -a on prod takes the further flag" destroy_prod

destroy_plan() {
    deploy -e prod -d -p
    exits 0
    calls "plan -destroy -input=false -var-file=prod.tfvars"
    changes_nothing
}
it "-d -p shows what would be deleted" destroy_plan

destroy_nothing() {
    rm "$world/bucket"
    deploy -e dev -d -a
    exits 1
    complains "nothing was deployed"
    changes_nothing
    never_calls init
}
it "-d makes no state's bucket" destroy_nothing

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
