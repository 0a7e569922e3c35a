-- Reactions by what they react to: one can come in before the bot has recorded the event id of its own post.
CREATE INDEX inbox_reaction ON inbox (json_extract(kind, '$.to'))
    WHERE json_extract(kind, '$.type') = 'reaction';
