"""Which names are those of secrets: few ordinary names of public APIs are taken for one, few real ones are missed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from railtracks._records.secret_names import WORDS, is_secret_name

# Usage of models, pagination, forms, headers, OAuth, tokenizers, as public APIs name them.
ORDINARY = """
    $skiptoken accept accept_cookies accepted_prediction_tokens account_id action active_tokens added_tokens_decoder
    address after_token amount api_base api_version app_id archive assignee attention_mask audio_tokens auth_method
    auth_provider auth_type auth_url author authorization_servers authors avatar_url average_tokens bearer_format
    bearer_methods_supported billed_units billing_address boarding_pass body bos_token bos_token_id branch bucket
    budget_tokens bypass cache_creation_input_tokens cache_key cache_read_input_tokens cached_content_token_count
    cached_tokens cacheReadInputTokens candidates_token_count capital category charset checkpoint city client_id
    client_name clientId code code_challenge_method color comment company compass completion completion_tokens
    completion_tokens_details completionTokens content content_type context_length continuation_token
    continuationToken cookie_consent cookie_domain cookie_name cookie_policy cookies_enabled correlation_id cost
    cost_per_token count country created_at credit_card_type currency cursor cursor_token date deltaToken description
    design_tokens device_id digest document domain duration email encoding end_cursor endpoint eos_token eos_token_id
    eot_token error_code etag event expires_at expires_in fencing_token file_name finish_reason first_name
    first_token_latency foreign_key format forward from full_name gender generated_tokens grant_type has_more
    has_next_page has_password hash hash_key header height hostname hotkey id idempotency_key idempotencyKey
    image_tokens index input input_ids input_token_details input_tokens inputTokenCount inputTokens instructions
    item_count jwks_uri key key_type keyboard keys keyword keywords kind label language last_name LastEvaluatedKey
    latency limit link locale location login logprobs mask_token max_completion_tokens max_input_tokens max_new_tokens
    max_output_tokens max_tokens max_tokens_to_sample maxOutputTokens message metadata method min_tokens model
    model_name monkey name namespace newsletter next next_cursor next_page next_page_token next_token next_token_id
    NextContinuationToken nextPageToken nextToken nonce num_input_tokens num_tokens object offset offset_mapping order
    organization origin otp_enabled output output_cost_per_token output_token_details output_tokens pad_token
    pad_token_id page page_info page_size page_token pageToken pagination_token PaginationToken paragraph parameters
    parent_id partition_key pass_count pass_rate passage passenger passengers passport password_changed_at
    password_max_length password_min_length password_policy password_required password_strength PasswordLastUsed path
    per_page permissions phone pincode pinned port position postal_code prefix prefix_token presence_penalty
    previous_page_token prevPageToken price primary_key prompt prompt_eval_count prompt_tokens prompt_tokens_details
    promptTokenCount provider public_key quantity query rate_limit_tokens reasoning_tokens redirect_uri region
    rejected_prediction_tokens remaining_tokens repository response response_format resume_token role routing_key
    s3_key scope score secret_name secret_scanning secret_version secretary seed selector sep_token sequenceToken
    service_tier session_id show_password signature size skipToken sort_key source special_tokens start_cursor
    startingToken state status stop stop_sequence stop_token street subject subtokens subtotal sync_token syncToken
    system_fingerprint table tag telephone temperature terms text thinking_tokens thoughtsTokenCount
    time_to_first_token timestamp timezone title token_budget token_count token_counts token_embeddings token_endpoint
    token_endpoint_auth_methods_supported token_ids token_index token_length token_lengths token_limit token_price
    token_probabilities token_str token_type token_type_ids token_url token_usage token_window tokenization
    tokenization_method tokenize tokenized tokenizer tokenizer_class tokenizer_config tokens tokens_evaluated
    tokens_per_minute tokens_per_second tokens_remaining tokens_used toolUsePromptTokenCount top_k top_logprobs top_p
    topic total total_token_count total_tokens totalTokens trace_id translation_key turkey type unk_token unread
    updated_at url usage usage_metadata user user_agent user_id username uuid value vendor version vocabulary volume
    website weight whiskey width x-ratelimit-limit-tokens x-ratelimit-remaining-tokens x-ratelimit-reset-tokens
    x-request-id zip_code
""".split()  # noqa: SIM905 - a list of names is read and changed more easily

REAL = """
    _auth _authToken access-token access_key access_token access_token_secret accessKeyId accessToken account_key
    activation_code admin_password ANTHROPIC_API_KEY api-key API_KEY api_key api_keys api_secret api_token apiKey
    apikey app_key app_secret APPSETTING_DB_PASSWORD auth auth-token auth_key auth_token authorization Authorization
    authorization_code AWS_ACCESS_KEY_ID aws_secret_access_key AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN
    azure_client_secret AZURE_STORAGE_CONNECTION_STRING backup_codes basic_auth bearer bearer_token bot_token
    client-secret client_assertion client_secret clientSecret clientsecret code_verifier connection_string
    connectionString ConnectionString consumer_key consumer_secret cookie Cookie cookies credential credentials creds
    csrf_token csrfmiddlewaretoken current_password cvv database_password DATADOG_API_KEY db.password DB_PASS
    db_password DB_PASSWORD dbPassword dbpassword decryption_key deploy_key deploy_token device_code DJANGO_SECRET_KEY
    dsn encryption_key FERNET_KEY ftp_password GITHUB_TOKEN gitlab_token google_api_key GOOGLE_CLIENT_SECRET hmac_key
    id_token integration_key jdbc_password jwt JWT_SECRET key_password keystore_password ldap_password license_key
    login_password mail_password master_key master_password mfa_code mnemonic mongo_password MYSQL_PWD
    MYSQL_ROOT_PASSWORD new_password NPM_TOKEN oauth_token oauth_token_secret Ocp-Apim-Subscription-Key old_password
    OPENAI_API_KEY otp pass_phrase pass_phrases pass-word pass_words passcode passphrase passwd password
    password1 password2
    password_confirmation passwordHash PGPASSWORD
    pin private-key PRIVATE-TOKEN private_key privateKey Proxy-Authorization proxy_password pwd
    recovery_codes redis_password refresh_token refreshToken registry_password root_password rsa_private_key sas_token
    secret SECRET secret_access_key secret_key SECRET_KEY_BASE secret_token secretKey secretkey secrets security_code
    seed_phrase SENDGRID_API_KEY SENTRY_DSN service_account_credentials session_token Set-Cookie shared_access_key
    shared_secret signing_key signing_secret slack_bot_token smtp_pass smtp_password ssh_key ssh_private_key ssl_key
    storage_account_key stripe_api_key STRIPE_SECRET_KEY subscription_key token TOKEN token_secret totp_secret
    TWILIO_AUTH_TOKEN user[password] user_password userPassword vault_token verification_code webhook_secret
    wifi_password X-Amz-Credential X-Amz-Security-Token X-Amz-Signature x-api-key X-API-Key x-auth-token x-csrf-token
    X-Vault-Token xsrf_token
""".split()  # noqa: SIM905 - a list of names is read and changed more easily


def test_the_page_for_users_has_all_words_of_the_rule() -> None:
    page = (Path(__file__).parent.parent / "docs" / "secrets.md").read_text("utf-8")
    assert [words for words in WORDS if not re.search(rf"(?<!\w){words}(?!\w)", page)] == []


def test_the_lists_are_long_enough() -> None:
    assert len(set(ORDINARY)) == len(ORDINARY) >= 200
    assert len(set(REAL)) == len(REAL) >= 100


def test_at_most_two_ordinary_names_of_the_list_are_taken_for_secrets() -> None:
    assert len([name for name in ORDINARY if is_secret_name(name)]) <= 2


def test_at_most_two_real_names_of_the_list_are_missed() -> None:
    assert len([name for name in REAL if not is_secret_name(name)]) <= 2


@pytest.mark.parametrize(
    ("secret", "about_it"),
    [
        ("password", "password_policy"),
        ("token", "token_count"),
        ("api_key", "api_key_name"),
        ("cookie", "cookie_domain"),
        ("credentials", "credentials_path"),
        ("authorization", "authorization_endpoint"),
        ("access_tokens", "access_token_lifetime"),
        ("connection_string", "connection_string_format"),
    ],
)
def test_a_word_behind_a_secret_word_can_tell_that_the_value_is_about_the_secret(secret: str, about_it: str) -> None:
    assert is_secret_name(secret)
    assert not is_secret_name(about_it)
    # And a secret word behind that again is one.
    assert is_secret_name(f"{about_it}_password")


@pytest.mark.parametrize("name", ["dbpass", "nexttoken", "authtokens", "maxtokens", "sshkey", "hotkey", "sentrydsn"])
def test_names_without_a_mark_between_their_words_are_read_by_their_ends(name: str) -> None:
    assert is_secret_name(name) is (name not in {"nexttoken", "maxtokens", "hotkey"})


def test_the_folders_of_the_shell_are_no_passwords() -> None:
    assert [name for name in ("PWD", "OLDPWD", "pwd", "MYSQL_PWD") if is_secret_name(name)] == ["pwd", "MYSQL_PWD"]
