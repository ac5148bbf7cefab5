-- Projects, archives, pins, settings, shares, imports and the index that history is searched by.

CREATE TABLE projects (
    tenant_id text NOT NULL,
    id text NOT NULL,
    user_id text NOT NULL,
    name text NOT NULL,
    -- What the model is told in every conversation of the project.
    instructions text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES users (tenant_id, id)
);

CREATE INDEX projects_of_user ON projects (tenant_id, user_id, id);

-- A person's own: instructions and default_model among them.
ALTER TABLE users ADD COLUMN IF NOT EXISTS settings jsonb NOT NULL DEFAULT '{}';

ALTER TABLE conversations
    ADD COLUMN pinned boolean NOT NULL DEFAULT false,
    ADD COLUMN archived boolean NOT NULL DEFAULT false,
    ADD COLUMN temporary boolean NOT NULL DEFAULT false,
    ADD COLUMN project_id text,
    ADD COLUMN settings jsonb NOT NULL DEFAULT '{}',
    -- What an imported conversation was in the file it came from: the same file twice is imported once.
    ADD COLUMN imported_from bytea,
    -- Up to which activity its messages can be found.
    ADD COLUMN searched_at timestamptz;

DROP INDEX conversations_newest;
CREATE INDEX conversations_newest ON conversations (tenant_id, user_id, archived, updated_at DESC, id DESC)
WHERE deleted_at IS NULL AND NOT temporary;
CREATE INDEX conversations_of_project ON conversations (tenant_id, project_id) WHERE project_id IS NOT NULL;
CREATE INDEX conversations_imported ON conversations (tenant_id, user_id, imported_from)
WHERE imported_from IS NOT NULL;
CREATE INDEX conversations_unsearched ON conversations (tenant_id, user_id)
WHERE deleted_at IS NULL AND NOT temporary AND (searched_at IS NULL OR searched_at < updated_at);
CREATE INDEX conversations_deleted ON conversations (deleted_at) WHERE deleted_at IS NOT NULL;
CREATE INDEX conversations_temporary ON conversations (updated_at) WHERE temporary;
CREATE INDEX IF NOT EXISTS turns_of_conversation ON turns (tenant_id, conversation_id);

-- A snapshot of a conversation that whoever has its secret may read. Only the secret's hash is kept.
CREATE TABLE shares (
    tenant_id text NOT NULL,
    id text NOT NULL,
    user_id text NOT NULL,
    conversation_id text NOT NULL,
    secret_sha256 bytea NOT NULL UNIQUE,
    title text,
    -- [{"role", "content", "model", "created_at"}], oldest first.
    messages json NOT NULL,
    message_count integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, conversation_id) REFERENCES conversations (tenant_id, id)
);

CREATE INDEX shares_of_user ON shares (tenant_id, user_id, id DESC);
CREATE INDEX shares_of_conversation ON shares (tenant_id, conversation_id);

-- What the turn was told and drawn by beside its own request, as it stood when it was opened: a takeover and a
-- continuation go on under the same.
ALTER TABLE turns ADD COLUMN settings json;

CREATE FUNCTION turn_settings(p_conversation conversations) RETURNS json LANGUAGE sql STABLE AS $$
    SELECT json_strip_nulls(json_build_object(
        'instructions', nullif(concat_ws(E'\n\n', nullif(u.settings ->> 'instructions', ''),
            nullif(p.instructions, ''), nullif(p_conversation.settings ->> 'instructions', '')), ''),
        'temperature', p_conversation.settings -> 'temperature',
        'top_p', p_conversation.settings -> 'top_p',
        'max_tokens', p_conversation.settings -> 'max_tokens'
    ))
    FROM users u LEFT JOIN projects p
        ON p.tenant_id = u.tenant_id AND p.id = p_conversation.project_id AND p.user_id = u.id
    WHERE u.tenant_id = p_conversation.tenant_id AND u.id = p_conversation.user_id
$$;

DROP FUNCTION open_turn(
    text, text, text, text, text, bytea, text, text, text, text, text[], text[], json[], json[], text[], integer[], json, text, double precision, boolean, boolean, text
);

-- As before, with the settings that hold for the turn; see 0003 for the outcomes.
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
    updated_at timestamptz,
    settings json
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
            NULL::timestamptz, NULL::timestamptz, NULL::json;
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
            body_sha256, model, request, lease_owner, lease_until, window_from_seq, window_summary, settings)
        SELECT p_tenant_id, p_turn_id, p_conversation_id, p_user_id, v_parent_id, p_draft_id, p_request_id,
            p_body_sha256, p_model, p_request, p_lease_owner,
            clock_timestamp() + make_interval(secs => p_lease_s), w.from_seq, w.summary,
            turn_settings(v_conversation)
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
            v_conversation.created_at, v_conversation.updated_at, v_turn.settings;
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
        c.id, c.title, c.metadata, c.last_seq, c.created_at, c.updated_at,
        v_turn.settings;
END;
$$;

-- Text as it is compared: without case, marks on letters and punctuation; words apart by one space.
CREATE FUNCTION search_folded(p_text text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT trim(regexp_replace(
        normalize(regexp_replace(lower(normalize(p_text, NFKD) COLLATE "pg_c_utf8"), '[\u0300-\u036f]', '', 'g'), NFKC)
            COLLATE "pg_c_utf8", '[^[:alnum:]]+', ' ', 'g'))
$$;

-- Folded text with each character of a script that is written without spaces a word of its own, so that any
-- part of a sentence is found as a phrase.
CREATE FUNCTION search_words(p_folded text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT regexp_replace(p_folded,
        '([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff])', ' \1 ', 'g')
$$;

-- Messages and titles that can be found. The owner is a word of each row, so that the one index answers for one
-- person: an underscore keeps it apart from every word of a text. `source_id` is a message's or, for a title, the
-- conversation's own id; `ended_at` is when the turn had ended whose answer was indexed.
CREATE TABLE search_entries (
    tenant_id text NOT NULL,
    source_id text NOT NULL,
    conversation_id text NOT NULL,
    user_id text NOT NULL,
    words tsvector NOT NULL,
    ended_at timestamptz,
    PRIMARY KEY (tenant_id, source_id)
);

CREATE INDEX search_entries_words ON search_entries USING gin (words);
CREATE INDEX search_entries_of_conversation ON search_entries (tenant_id, conversation_id);

CREATE FUNCTION search_vector(p_user_id text, p_text text) RETURNS tsvector LANGUAGE sql IMMUTABLE AS $$
    -- 100,000 characters stay far below what a tsvector may hold.
    SELECT array_to_tsvector(ARRAY[p_user_id])
        || to_tsvector('simple', search_words(search_folded(left(p_text, 100000))))
$$;

-- What is looked for: every word, the last one also as the beginning of one. Null if there is no word.
CREATE FUNCTION search_query(p_text text) RETURNS tsquery LANGUAGE sql IMMUTABLE AS $$
    WITH word AS (
        SELECT part, place, place = max(place) OVER () AS is_last
        FROM string_to_table(search_folded(p_text), ' ') WITH ORDINALITY AS w (part, place) WHERE part <> ''
    ), phrase AS (
        SELECT phraseto_tsquery('simple', search_words(part))::text AS text, place, is_last FROM word
    )
    SELECT string_agg(CASE WHEN is_last THEN regexp_replace(text, '(''[^'']*'')$', '\1:*') ELSE text END,
        ' & ' ORDER BY place)::tsquery
    FROM phrase WHERE text <> ''
$$;

-- The text of a message. A NUL, which json may hold and text can't, becomes a space.
CREATE FUNCTION message_text(p_content json) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE json_typeof(c.content)
        WHEN 'string' THEN c.content #>> '{}'
        WHEN 'array' THEN (SELECT string_agg(part ->> 'text', ' ') FROM json_array_elements(c.content) AS part)
    END
    FROM (SELECT replace(p_content::text, '\u0000', '\u0020')::json AS content) c
$$;

-- Index some of what one user's conversations have gained since they were last indexed: before a search, and by the
-- worker. Turns don't pay for it: to index a message costs as much as to open a turn. Says whether there may be
-- more: a call does so little that it ends in time, whatever was imported, and a conversation is noted as searched
-- with its last message. What is committed after its messages were read has a later updated_at than the one that
-- is noted, and is indexed the next time.
CREATE FUNCTION index_messages(p_tenant_id text, p_user_id text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    c_conversations constant integer := 10;
    c_messages constant integer := 100;
    v_conversation record;
    v_ids text[] := '{}';
    v_seen timestamptz[] := '{}';
    v_left integer := c_messages;
    v_rows integer;
BEGIN
    -- Two searches of one person don't do the same twice.
    PERFORM pg_advisory_xact_lock(hashtextextended('search ' || p_user_id, 0));
    FOR v_conversation IN
        SELECT c.id, c.updated_at FROM conversations c
        WHERE c.tenant_id = p_tenant_id AND c.user_id = p_user_id AND c.deleted_at IS NULL AND NOT c.temporary
          AND (c.searched_at IS NULL OR c.searched_at < c.updated_at)
        ORDER BY c.updated_at DESC LIMIT c_conversations
        FOR KEY SHARE  -- whoever removes it waits, and then removes these entries too
    LOOP
        INSERT INTO search_entries (tenant_id, source_id, conversation_id, user_id, words, ended_at)
        SELECT p_tenant_id, new.id, v_conversation.id, p_user_id,
            search_vector(p_user_id, message_text(new.content_json)), new.ended_at
        FROM (
            SELECT m.id, m.content_json, CASE WHEN m.role = 'assistant' THEN t.ended_at END AS ended_at
            FROM messages m
            LEFT JOIN search_entries e ON e.tenant_id = m.tenant_id AND e.source_id = m.id
            LEFT JOIN turns t ON t.tenant_id = m.tenant_id AND t.id = m.turn_id
            WHERE m.tenant_id = p_tenant_id AND m.conversation_id = v_conversation.id
              AND m.status <> 'streaming' AND m.role IN ('user', 'assistant') AND m.content_json IS NOT NULL
              -- An answer that was continued has grown, and ended anew.
              AND (e.source_id IS NULL OR (m.role = 'assistant' AND t.ended_at IS DISTINCT FROM e.ended_at))
            ORDER BY m.seq LIMIT v_left
        ) new
        ON CONFLICT (tenant_id, source_id) DO UPDATE SET words = excluded.words, ended_at = excluded.ended_at;
        GET DIAGNOSTICS v_rows = ROW_COUNT;
        v_left := v_left - v_rows;
        EXIT WHEN v_left = 0;
        v_ids := v_ids || v_conversation.id;
        v_seen := v_seen || v_conversation.updated_at;
    END LOOP;
    UPDATE conversations c SET searched_at = seen.at
    FROM unnest(v_ids, v_seen) AS seen (id, at)
    WHERE c.tenant_id = p_tenant_id AND c.id = seen.id
      AND (c.searched_at IS NULL OR c.searched_at < seen.at);
    RETURN v_left = 0 OR cardinality(v_ids) = c_conversations;
END;
$$;

CREATE FUNCTION index_title() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO search_entries (tenant_id, source_id, conversation_id, user_id, words)
    VALUES (NEW.tenant_id, NEW.id, NEW.id, NEW.user_id, search_vector(NEW.user_id, NEW.title))
    ON CONFLICT (tenant_id, source_id) DO UPDATE SET words = excluded.words;
    RETURN NULL;
END;
$$;

CREATE TRIGGER titles_found_new AFTER INSERT ON conversations FOR EACH ROW
WHEN (NEW.title IS NOT NULL AND NOT NEW.temporary) EXECUTE FUNCTION index_title();

CREATE TRIGGER titles_found AFTER UPDATE OF title ON conversations FOR EACH ROW
WHEN (NEW.title IS NOT NULL AND NOT NEW.temporary AND NEW.title IS DISTINCT FROM OLD.title)
EXECUTE FUNCTION index_title();

-- The titles of before this version; its messages are indexed as any others.
INSERT INTO search_entries (tenant_id, source_id, conversation_id, user_id, words)
SELECT c.tenant_id, c.id, c.id, c.user_id, search_vector(c.user_id, c.title)
FROM conversations c WHERE c.title IS NOT NULL AND c.deleted_at IS NULL;

-- Remove these conversations with all that hangs on them but the bill; how many rows of each table. The list of
-- such tables is here and nowhere else.
CREATE FUNCTION remove_conversations(p_tenant_ids text[], p_ids text[])
RETURNS TABLE (name text, rows bigint) LANGUAGE sql AS $$
    WITH gone AS (
        SELECT tenant_id, id FROM unnest(p_tenant_ids, p_ids) AS each (tenant_id, id)
    ), entries AS (
        DELETE FROM search_entries x USING gone WHERE x.tenant_id = gone.tenant_id AND x.conversation_id = gone.id
        RETURNING 1
    ), told AS (
        DELETE FROM summaries x USING gone WHERE x.tenant_id = gone.tenant_id AND x.conversation_id = gone.id
        RETURNING 1
    ), shared AS (
        DELETE FROM shares x USING gone WHERE x.tenant_id = gone.tenant_id AND x.conversation_id = gone.id
        RETURNING 1
    ), asked AS (
        DELETE FROM turns x USING gone WHERE x.tenant_id = gone.tenant_id AND x.conversation_id = gone.id
        RETURNING 1
    ), said AS (
        DELETE FROM messages x USING gone WHERE x.tenant_id = gone.tenant_id AND x.conversation_id = gone.id
        RETURNING 1
    ), removed AS (
        DELETE FROM conversations c USING gone WHERE c.tenant_id = gone.tenant_id AND c.id = gone.id
        RETURNING 1
    )
    SELECT 'search_entries', count(*) FROM entries UNION ALL SELECT 'summaries', count(*) FROM told
    UNION ALL SELECT 'shares', count(*) FROM shared UNION ALL SELECT 'turns', count(*) FROM asked
    UNION ALL SELECT 'messages', count(*) FROM said UNION ALL SELECT 'conversations', count(*) FROM removed
$$;

-- Remove conversations whose time has run out. Those in which a turn runs wait for it.
CREATE FUNCTION purge_conversations(p_deleted_kept interval, p_temporary_kept interval, p_limit integer)
RETURNS TABLE (tenant_id text, id text) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_tenant_ids text[];
    v_ids text[];
BEGIN
    SELECT array_agg(c.tenant_id), array_agg(c.id) INTO v_tenant_ids, v_ids FROM (
        SELECT c.tenant_id, c.id FROM conversations c
        WHERE (c.deleted_at < clock_timestamp() - p_deleted_kept
            OR (c.temporary AND c.updated_at < clock_timestamp() - p_temporary_kept))
          AND NOT EXISTS (SELECT FROM turns t WHERE t.tenant_id = c.tenant_id AND t.conversation_id = c.id
            AND t.state = 'streaming')
        LIMIT p_limit FOR UPDATE SKIP LOCKED
    ) c;
    PERFORM remove_conversations(v_tenant_ids, v_ids);
    RETURN QUERY SELECT gone.tenant_id, gone.id FROM unnest(v_tenant_ids, v_ids) AS gone (tenant_id, id);
END;
$$;
