-- Plans and disabled users, settings, what a session was seen doing, the audit log, details of turns, and the
-- word to open streams that somebody's access has ended.

-- NULL is the plan that the settings name for everybody. A disabled user keeps everything and may do nothing.
ALTER TABLE users
    ADD COLUMN plan text,
    ADD COLUMN disabled_at timestamptz,
    ADD COLUMN settings jsonb NOT NULL DEFAULT '{}';

ALTER TABLE sessions
    ADD COLUMN last_seen_at timestamptz,
    ADD COLUMN user_agent text NOT NULL DEFAULT '',
    ADD COLUMN address text NOT NULL DEFAULT '';

CREATE INDEX sessions_of_user ON sessions (tenant_id, user_id, id) WHERE ended_at IS NULL;
CREATE INDEX sign_in_links_of_user ON sign_in_links (tenant_id, user_id);

ALTER TABLE turns ADD COLUMN time_to_first_token_ms integer;
-- For deleting what a user has written.
CREATE INDEX conversations_hidden ON conversations (tenant_id, user_id, id) WHERE deleted_at IS NOT NULL;
CREATE INDEX turns_of_conversation ON turns (tenant_id, conversation_id);

CREATE INDEX usage_events_of_user ON usage_events (tenant_id, user_id, created_at);
CREATE INDEX usage_events_of_turn ON usage_events (tenant_id, turn_id) WHERE turn_id IS NOT NULL;

-- Who did what to whom. Rows are added and never changed; it outlives the users that it names.
CREATE TABLE audit_log (
    tenant_id text NOT NULL,
    id text NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    actor_id text,
    actor_name text NOT NULL,
    action text NOT NULL,
    target text NOT NULL,
    detail text NOT NULL DEFAULT '',
    address text NOT NULL DEFAULT '',
    PRIMARY KEY (tenant_id, id)
);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
END;
$$;

CREATE TRIGGER audit_log_is_append_only BEFORE UPDATE OR DELETE ON audit_log
FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- Access that has just ended: of a user, or of one session or key. Every process with open streams looks here
-- several times a second; a row is of use for seconds and kept for an hour.
CREATE TABLE ended_access (
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    tenant_id text NOT NULL,
    -- A user's, a session's or a key's id.
    id text NOT NULL
);

CREATE INDEX ended_access_by_time ON ended_access (at);

CREATE FUNCTION end_access() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ended_access (tenant_id, id) VALUES (OLD.tenant_id, OLD.id);
    DELETE FROM ended_access WHERE at < clock_timestamp() - interval '1 hour';
    RETURN NULL;
END;
$$;

CREATE TRIGGER users_access AFTER UPDATE OF disabled_at, is_admin ON users FOR EACH ROW
WHEN ((NEW.disabled_at IS NOT NULL AND OLD.disabled_at IS NULL) OR (OLD.is_admin AND NOT NEW.is_admin))
EXECUTE FUNCTION end_access();

CREATE TRIGGER users_gone AFTER DELETE ON users FOR EACH ROW EXECUTE FUNCTION end_access();

CREATE TRIGGER sessions_access AFTER UPDATE OF ended_at ON sessions FOR EACH ROW
WHEN (NEW.ended_at IS NOT NULL AND OLD.ended_at IS NULL) EXECUTE FUNCTION end_access();

CREATE TRIGGER api_keys_access AFTER UPDATE OF revoked_at ON api_keys FOR EACH ROW
WHEN (NEW.revoked_at IS NOT NULL AND OLD.revoked_at IS NULL) EXECUTE FUNCTION end_access();

DROP FUNCTION finish_turn(
    text, text, text, bigint, bigint, text, json, json, text, integer, text, text, bigint, text, text, text,
    text, text[], integer[], text[], text[], bigint[], bigint[], bigint[], bigint[], bigint, bigint, bigint, text[], bytea[], text[]
);

-- The end of a turn with its bill, an element of the arrays for each engine call: one round trip.
-- True: done. False: it had ended already, or another owner has it. Null: there is no such turn.
CREATE FUNCTION finish_turn(
    p_tenant_id text,
    p_user_id text,
    p_turn_id text,
    p_fence bigint,
    p_log_position bigint,
    p_state text,
    p_content json,
    p_tool_calls json,
    p_finish_reason text,
    p_token_count integer,
    p_error_code text,
    p_error_message text,
    p_window_from_seq bigint,
    p_window_summary text,
    p_usage_api_key_id text,
    p_usage_request_id text,
    p_usage_model text,
    p_usage_ids text[],
    p_usage_attempts integer[],
    p_usage_routes text[],
    p_usage_replicas text[],
    p_usage_prompt_tokens bigint[],
    p_usage_completion_tokens bigint[],
    p_usage_cached_tokens bigint[],
    p_usage_costs bigint[],
    p_earlier_prompt_tokens bigint,
    p_earlier_completion_tokens bigint,
    p_earlier_cached_tokens bigint,
    p_job_entrypoints text[],
    p_job_payloads bytea[],
    p_job_keys text[],
    p_time_to_first_token_ms integer
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_turn turns%ROWTYPE;
    v_usage record;
BEGIN
    SELECT coalesce(sum(call.prompt), 0) AS prompt, coalesce(sum(call.completion), 0) AS completion,
        coalesce(sum(call.cached), 0) AS cached
    INTO v_usage
    FROM unnest(p_usage_prompt_tokens, p_usage_completion_tokens, p_usage_cached_tokens)
        AS call (prompt, completion, cached);

    UPDATE turns t SET
        state = p_state,
        error_code = p_error_code,
        error_message = p_error_message,
        prompt_tokens = t.prompt_tokens + p_earlier_prompt_tokens + v_usage.prompt,
        completion_tokens = t.completion_tokens + p_earlier_completion_tokens + v_usage.completion,
        cached_tokens = t.cached_tokens + p_earlier_cached_tokens + v_usage.cached,
        window_from_seq = coalesce(p_window_from_seq, t.window_from_seq),
        window_summary = CASE WHEN p_window_from_seq IS NULL THEN t.window_summary ELSE p_window_summary END,
        -- A continuation and a takeover go on behind the first token.
        time_to_first_token_ms = coalesce(t.time_to_first_token_ms, p_time_to_first_token_ms),
        ended_at = clock_timestamp(),
        log_position = p_log_position,
        lease_owner = NULL,
        lease_until = NULL
    WHERE t.tenant_id = p_tenant_id AND t.id = p_turn_id AND t.user_id = p_user_id AND t.state = 'streaming'
      AND t.fence = p_fence
    RETURNING * INTO v_turn;
    IF NOT FOUND THEN
        RETURN (
            SELECT false FROM turns t
            WHERE t.tenant_id = p_tenant_id AND t.id = p_turn_id AND t.user_id = p_user_id
        );
    END IF;

    UPDATE messages m SET
        status = p_state,
        content_json = p_content,
        tool_calls = p_tool_calls,
        finish_reason = p_finish_reason,
        token_count = p_token_count
    WHERE m.tenant_id = p_tenant_id AND m.id = v_turn.message_id;

    UPDATE conversations c SET
        updated_at = greatest(clock_timestamp(), c.updated_at)
    WHERE c.tenant_id = p_tenant_id AND c.id = v_turn.conversation_id;

    INSERT INTO usage_events (tenant_id, id, user_id, api_key_id, conversation_id, turn_id, request_id,
        model, attempt, route, replica, prompt_tokens, completion_tokens, cached_tokens, cost)
    SELECT p_tenant_id, call.id, p_user_id, p_usage_api_key_id, v_turn.conversation_id, p_turn_id,
        p_usage_request_id, p_usage_model, call.attempt, call.route, call.replica, call.prompt, call.completion,
        call.cached, call.cost
    FROM unnest(p_usage_ids, p_usage_attempts, p_usage_routes, p_usage_replicas, p_usage_prompt_tokens,
        p_usage_completion_tokens, p_usage_cached_tokens, p_usage_costs)
        AS call (id, attempt, route, replica, prompt, completion, cached, cost)
    ON CONFLICT (tenant_id, id) DO NOTHING;

    PERFORM enqueue_job(job.entrypoint, job.payload, job.dedupe_key)
    FROM unnest(p_job_entrypoints, p_job_payloads, p_job_keys) AS job (entrypoint, payload, dedupe_key);
    RETURN true;
END;
$$;
