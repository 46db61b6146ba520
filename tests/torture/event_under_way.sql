-- What will be told though nobody asks for anything more: holds that expire, postings that go
-- straight through.
select (select count(*) from ni.hold where status = 'active' and expires_at is not null)
       + (select count(*) from ni.posting
           where home and straight_through and status = 'pending')
