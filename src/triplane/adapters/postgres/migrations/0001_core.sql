-- Accounts, conversations, turns and the bill. Every key leads with tenant_id, so that the tables can be spread
-- over several primaries by tenant. Ids are UUIDv7 in typed text form: they sort by when they were made.

CREATE TABLE tenants (
    id text PRIMARY KEY,
    name text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE users (
    tenant_id text NOT NULL REFERENCES tenants (id),
    id text NOT NULL,
    name text NOT NULL,
    is_admin boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id)
);

-- Secrets are kept as SHA-256 of 256 random bits. They are looked up before the tenant is known, hence the
-- unique keys of their own.
CREATE TABLE sign_in_links (
    tenant_id text NOT NULL,
    user_id text NOT NULL,
    token_sha256 bytea NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    used_at timestamptz,
    PRIMARY KEY (tenant_id, token_sha256),
    FOREIGN KEY (tenant_id, user_id) REFERENCES users (tenant_id, id)
);

CREATE TABLE sessions (
    tenant_id text NOT NULL,
    id text NOT NULL UNIQUE,
    user_id text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    ended_at timestamptz,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES users (tenant_id, id)
);

CREATE TABLE api_keys (
    tenant_id text NOT NULL,
    id text NOT NULL,
    user_id text NOT NULL,
    name text NOT NULL,
    prefix text NOT NULL,
    secret_sha256 bytea NOT NULL UNIQUE,
    created_at timestamptz NOT NULL,
    last_used_at timestamptz,
    revoked_at timestamptz,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES users (tenant_id, id)
);

CREATE INDEX api_keys_of_user ON api_keys (tenant_id, user_id, id);

CREATE TABLE conversations (
    tenant_id text NOT NULL,
    id text NOT NULL,
    user_id text NOT NULL,
    title text,
    title_source text CHECK (title_source IN ('provisional', 'generated', 'user')),
    metadata jsonb NOT NULL DEFAULT '{}',
    -- The number of messages: the next one gets last_seq + 1.
    last_seq bigint NOT NULL DEFAULT 0,
    -- The last message of the branch that is shown.
    active_leaf text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES users (tenant_id, id)
);

CREATE INDEX conversations_newest ON conversations (tenant_id, user_id, updated_at DESC, id DESC)
WHERE deleted_at IS NULL;

CREATE TABLE turns (
    tenant_id text NOT NULL,
    id text NOT NULL,
    conversation_id text NOT NULL,
    user_id text NOT NULL,
    -- The message that the turn's input follows; the assistant's draft.
    parent_id text,
    message_id text NOT NULL,
    request_id text NOT NULL,
    body_sha256 bytea NOT NULL,
    model text NOT NULL,
    state text NOT NULL DEFAULT 'streaming'
        CHECK (state IN ('streaming', 'complete', 'incomplete', 'stopped', 'failed')),
    error_code text,
    error_message text,
    prompt_tokens bigint NOT NULL DEFAULT 0,
    completion_tokens bigint NOT NULL DEFAULT 0,
    cached_tokens bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    -- The ask as it was accepted, for whoever takes the turn over, continues it or has it answered again.
    request json,
    -- Who runs it, until when, and which of its owners that is: an owner with a lower fence writes nothing.
    lease_owner text,
    lease_until timestamptz,
    fence bigint NOT NULL DEFAULT 1,
    stop_requested boolean NOT NULL DEFAULT false,
    -- The last position of the replay log that the draft's text includes; after the end, the log's last.
    log_position bigint NOT NULL DEFAULT 0,
    -- Where the log stood when the answer was last continued: an end up to there is none.
    continued_after bigint NOT NULL DEFAULT 0,
    -- What its prompt held of the history: the messages from here on, and what stood for those before it (a
    -- summary's from_message_id). The next turn on this path begins with the same.
    window_from_seq bigint NOT NULL DEFAULT 1,
    window_summary text,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, user_id, request_id),
    FOREIGN KEY (tenant_id, conversation_id) REFERENCES conversations (tenant_id, id)
);

CREATE INDEX turns_running ON turns (lease_until) WHERE state = 'streaming';
CREATE INDEX turns_running_of_user ON turns (tenant_id, user_id, created_at, id) WHERE state = 'streaming';

CREATE TABLE messages (
    tenant_id text NOT NULL,
    id text NOT NULL,
    conversation_id text NOT NULL,
    seq bigint NOT NULL,
    parent_id text,
    turn_id text,
    role text NOT NULL CHECK (role IN ('system', 'developer', 'user', 'assistant', 'tool')),
    status text NOT NULL CHECK (status IN ('streaming', 'complete', 'incomplete', 'stopped', 'failed')),
    -- json and not jsonb: it keeps every text as it was sent, \u0000 included, and is cheaper to write.
    content_json json,
    tool_calls json,
    tool_call_id text,
    model text,
    finish_reason text,
    token_count integer,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, conversation_id, seq),
    FOREIGN KEY (tenant_id, conversation_id) REFERENCES conversations (tenant_id, id)
);

CREATE INDEX messages_below ON messages (tenant_id, conversation_id, parent_id);

-- What the model is told in place of older messages: all those above `from_message_id`, of which `upto_seq` is
-- the newest. It holds for every path through that message and for no other, and never changes.
CREATE TABLE summaries (
    tenant_id text NOT NULL,
    conversation_id text NOT NULL,
    from_message_id text NOT NULL,
    upto_seq bigint NOT NULL,
    text text NOT NULL,
    token_count integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, conversation_id, from_message_id),
    FOREIGN KEY (tenant_id, conversation_id) REFERENCES conversations (tenant_id, id)
);

-- The bill is append-only and outlives what it bills, so it references nothing.
CREATE TABLE usage_events (
    tenant_id text NOT NULL,
    id text NOT NULL,
    user_id text NOT NULL,
    api_key_id text,
    conversation_id text,
    turn_id text,
    request_id text NOT NULL,
    model text NOT NULL,
    engine text NOT NULL,
    prompt_tokens bigint NOT NULL,
    completion_tokens bigint NOT NULL,
    cached_tokens bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id)
);

CREATE INDEX usage_events_by_time ON usage_events (tenant_id, created_at);
