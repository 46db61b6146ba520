-- How many texts the notifier has made.
SELECT count(*) FROM ni.sms_message
