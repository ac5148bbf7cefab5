-- Opening and finishing a turn, one call each.

-- Write a turn: its row, its input messages and the assistant's draft. `outcome` is
--   opened            everything was written
--   known             the request id was known, with the same body; this is that turn, nothing was written
--   reused            the request id was known, with another body or conversation; nothing was written
--   no_conversation   there is none for this user
--   no_parent         the conversation has no such message
--   unsettled         that message is still being written
--   moved             the active leaf isn't the expected one
-- The conversation's row lock puts the writers of one conversation in order; `last_seq` moves only where rows
-- are written, so `seq` has no gaps.
CREATE FUNCTION open_turn(
    p_tenant_id text,
    p_user_id text,
    p_conversation_id text,
    p_turn_id text,
    p_request_id text,
    p_body_sha256 bytea,
    p_model text,
    p_parent_id text,
    p_draft_id text,
    p_title text,
    p_ids text[],
    p_roles text[],
    p_contents json[],
    p_tool_calls json[],
    p_tool_call_ids text[],
    p_token_counts integer[],
    p_request json,
    p_lease_owner text,
    p_lease_s double precision,
    p_at_beginning boolean,
    p_expects boolean,
    p_expected_parent text
) RETURNS TABLE (
    outcome text,
    turn_id text,
    message_id text,
    parent_id text,
    state text,
    turn_created_at timestamptz,
    draft_seq bigint,
    conversation_id text,
    title text,
    metadata jsonb,
    last_seq bigint,
    created_at timestamptz,
    updated_at timestamptz
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_conversation conversations%ROWTYPE;
    v_turn turns%ROWTYPE;
    v_outcome text;
    v_parent_id text := p_parent_id;
    v_inputs integer := cardinality(p_ids);
BEGIN
    SELECT * INTO v_conversation FROM conversations c
    WHERE c.tenant_id = p_tenant_id AND c.id = p_conversation_id AND c.user_id = p_user_id
      AND c.deleted_at IS NULL
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 'no_conversation', NULL::text, NULL::text, NULL::text, NULL::text,
            NULL::timestamptz, NULL::bigint, NULL::text, NULL::text, NULL::jsonb, NULL::bigint,
            NULL::timestamptz, NULL::timestamptz;
        RETURN;
    END IF;

    IF p_expects AND v_conversation.active_leaf IS DISTINCT FROM p_expected_parent THEN
        v_outcome := 'moved';
    ELSIF v_parent_id IS NOT NULL THEN
        SELECT CASE WHEN m.status = 'streaming' THEN 'unsettled' END INTO v_outcome FROM messages m
        WHERE m.tenant_id = p_tenant_id AND m.id = v_parent_id AND m.conversation_id = p_conversation_id;
        IF NOT FOUND THEN
            v_outcome := 'no_parent';
        END IF;
    ELSIF NOT p_at_beginning THEN
        v_parent_id := settled_leaf(p_tenant_id, v_conversation.active_leaf);
    END IF;

    IF v_outcome IS NULL THEN
        INSERT INTO turns (tenant_id, id, conversation_id, user_id, parent_id, message_id, request_id,
            body_sha256, model, request, lease_owner, lease_until, window_from_seq, window_summary)
        SELECT p_tenant_id, p_turn_id, p_conversation_id, p_user_id, v_parent_id, p_draft_id, p_request_id,
            p_body_sha256, p_model, p_request, p_lease_owner,
            clock_timestamp() + make_interval(secs => p_lease_s), w.from_seq, w.summary
        FROM window_after(p_tenant_id, v_parent_id) w
        ON CONFLICT (tenant_id, user_id, request_id) DO NOTHING
        RETURNING * INTO v_turn;
    END IF;
    IF v_turn.id IS NULL THEN
        SELECT * INTO v_turn FROM turns t
        WHERE t.tenant_id = p_tenant_id AND t.user_id = p_user_id AND t.request_id = p_request_id;
        IF FOUND THEN
            v_outcome := CASE
                WHEN v_turn.body_sha256 = p_body_sha256 AND v_turn.conversation_id = p_conversation_id THEN 'known' ELSE 'reused' END;
        END IF;
        RETURN QUERY SELECT v_outcome, v_turn.id, v_turn.message_id, v_turn.parent_id, v_turn.state,
            v_turn.created_at,
            (SELECT m.seq FROM messages m WHERE m.tenant_id = p_tenant_id AND m.id = v_turn.message_id),
            v_conversation.id, v_conversation.title, v_conversation.metadata, v_conversation.last_seq,
            v_conversation.created_at, v_conversation.updated_at;
        RETURN;
    END IF;

    INSERT INTO messages (tenant_id, id, conversation_id, seq, parent_id, turn_id, role, status, content_json,
        tool_calls, tool_call_id, token_count, created_at)
    SELECT p_tenant_id, i.id, p_conversation_id, v_conversation.last_seq + i.place,
        CASE WHEN i.place = 1 THEN v_parent_id ELSE p_ids[i.place - 1] END,
        p_turn_id, i.role, 'complete', i.content, i.calls, i.call_id, i.tokens, v_turn.created_at
    FROM unnest(p_ids, p_roles, p_contents, p_tool_calls, p_tool_call_ids, p_token_counts)
        WITH ORDINALITY AS i (id, role, content, calls, call_id, tokens, place);

    INSERT INTO messages (tenant_id, id, conversation_id, seq, parent_id, turn_id, role, status, content_json,
        model, created_at)
    VALUES (p_tenant_id, p_draft_id, p_conversation_id, v_conversation.last_seq + v_inputs + 1,
        CASE WHEN v_inputs = 0 THEN v_parent_id ELSE p_ids[v_inputs] END,
        p_turn_id, 'assistant', 'streaming', '""', p_model, v_turn.created_at);

    RETURN QUERY
    UPDATE conversations c SET
        last_seq = c.last_seq + v_inputs + 1,
        active_leaf = p_draft_id,
        -- Two writers in line would otherwise leave the time of the one that began first.
        updated_at = greatest(clock_timestamp(), c.updated_at),
        title = coalesce(c.title, p_title),
        title_source = CASE WHEN c.title IS NULL AND p_title IS NOT NULL THEN 'provisional'
            ELSE c.title_source END
    WHERE c.tenant_id = p_tenant_id AND c.id = p_conversation_id
    RETURNING 'opened', v_turn.id, p_draft_id, v_parent_id, v_turn.state, v_turn.created_at, c.last_seq,
        c.id, c.title, c.metadata, c.last_seq, c.created_at, c.updated_at;
END;
$$;

-- Where the prompt begins of a turn that follows this message: where the turn that wrote it began. Messages that a
-- conversation was created with belong to no turn, and nothing of them was cut.
CREATE FUNCTION window_after(p_tenant_id text, p_message_id text, OUT from_seq bigint, OUT summary text)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    SELECT t.window_from_seq, t.window_summary INTO from_seq, summary
    FROM messages m JOIN turns t ON t.tenant_id = m.tenant_id AND t.id = m.turn_id
    WHERE m.tenant_id = p_tenant_id AND m.id = p_message_id;
    from_seq := coalesce(from_seq, 1);
END;
$$;

-- The nearest message from `p_leaf` upwards that doesn't belong to a turn still running: what a new input
-- follows when it comes while an answer is being written becomes a branch beside that turn; where that turn
-- answers another's question again, beside the question.
CREATE FUNCTION settled_leaf(p_tenant_id text, p_leaf text) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_leaf text := p_leaf;
    v_above text;
BEGIN
    LOOP
        SELECT CASE WHEN m.parent_id IS DISTINCT FROM t.parent_id THEN t.parent_id ELSE asked.parent_id END
        INTO v_above
        FROM messages m JOIN turns t ON t.tenant_id = m.tenant_id AND t.id = m.turn_id
        LEFT JOIN messages q ON q.tenant_id = t.tenant_id AND q.id = t.parent_id
        LEFT JOIN turns asked ON asked.tenant_id = q.tenant_id AND asked.id = q.turn_id
        WHERE m.tenant_id = p_tenant_id AND m.id = v_leaf AND t.state = 'streaming';
        IF NOT FOUND THEN
            RETURN v_leaf;
        END IF;
        v_leaf := v_above;
    END LOOP;
END;
$$;

-- End a turn: the assistant's row, the turn's state and window, its usage event, and its jobs. True if this call ended it,
-- false if it had ended before (then nothing is written), null if there is no such turn.
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
    p_usage_id text,
    p_usage_api_key_id text,
    p_usage_request_id text,
    p_usage_model text,
    p_usage_engine text,
    p_prompt_tokens bigint,
    p_completion_tokens bigint,
    p_cached_tokens bigint,
    p_earlier_prompt_tokens bigint,
    p_earlier_completion_tokens bigint,
    p_earlier_cached_tokens bigint,
    p_job_entrypoints text[],
    p_job_payloads bytea[],
    p_job_keys text[]
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_turn turns%ROWTYPE;
BEGIN
    UPDATE turns t SET
        state = p_state,
        error_code = p_error_code,
        error_message = p_error_message,
        prompt_tokens = t.prompt_tokens + p_earlier_prompt_tokens + p_prompt_tokens,
        completion_tokens = t.completion_tokens + p_earlier_completion_tokens + p_completion_tokens,
        cached_tokens = t.cached_tokens + p_earlier_cached_tokens + p_cached_tokens,
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

    IF p_usage_id IS NOT NULL THEN
        INSERT INTO usage_events (tenant_id, id, user_id, api_key_id, conversation_id, turn_id, request_id,
            model, engine, prompt_tokens, completion_tokens, cached_tokens)
        VALUES (p_tenant_id, p_usage_id, p_user_id, p_usage_api_key_id, v_turn.conversation_id, p_turn_id,
            p_usage_request_id, p_usage_model, p_usage_engine, p_prompt_tokens, p_completion_tokens,
            p_cached_tokens)
        ON CONFLICT (tenant_id, id) DO NOTHING;
    END IF;

    PERFORM enqueue_job(job.entrypoint, job.payload, job.dedupe_key)
    FROM unnest(p_job_entrypoints, p_job_payloads, p_job_keys) AS job (entrypoint, payload, dedupe_key);
    RETURN true;
END;
$$;

-- Put a job into the queue, in the caller's transaction; nothing happens if one with this key is waiting.
CREATE FUNCTION enqueue_job(p_entrypoint text, p_payload bytea, p_dedupe_key text) RETURNS void
LANGUAGE sql AS $$
    WITH added AS (
        INSERT INTO pgqueuer (priority, entrypoint, payload, dedupe_key, status)
        VALUES (0, p_entrypoint, p_payload, p_dedupe_key, 'queued')
        ON CONFLICT (dedupe_key)
            WHERE status IN ('queued', 'picked') AND dedupe_key IS NOT NULL DO NOTHING
        RETURNING id, entrypoint, priority
    )
    INSERT INTO pgqueuer_log (job_id, status, entrypoint, priority)
    SELECT added.id, 'queued', added.entrypoint, added.priority FROM added;
$$;
