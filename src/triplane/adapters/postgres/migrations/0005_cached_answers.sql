-- Whether answers to requests with this key may come from the response cache.
ALTER TABLE api_keys ADD COLUMN caches_answers boolean NOT NULL DEFAULT false;
