-- The bill has a line for each call to an engine: which route and replica computed, at what cost.

-- What was billed before this version was one line for each completion, named by its engine.
ALTER TABLE usage_events RENAME COLUMN engine TO replica;

-- `attempt` counts the calls of one completion from 1; `cost` is in nano-dollars.
ALTER TABLE usage_events
    ADD COLUMN route text NOT NULL DEFAULT '',
    ADD COLUMN attempt integer NOT NULL DEFAULT 1,
    ADD COLUMN cost bigint NOT NULL DEFAULT 0;

ALTER TABLE usage_events
    ALTER COLUMN route DROP DEFAULT,
    ALTER COLUMN attempt DROP DEFAULT,
    ALTER COLUMN cost DROP DEFAULT;

DROP FUNCTION finish_turn(
    text, text, text, bigint, bigint, text, json, json, text, integer, text, text, bigint, text, text,
    text, text, text, text, bigint, bigint, bigint, bigint, bigint, bigint, text[], bytea[], text[]
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
    p_job_keys text[]
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
