-- A job can be in review, and can take back what it made: it is at work on its room then, too.
DROP INDEX job_active_room;
CREATE UNIQUE INDEX job_active_room ON job (old_room)
    WHERE state IN ('running', 'in_review', 'unwinding', 'stuck');
