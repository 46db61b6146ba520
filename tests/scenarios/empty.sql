-- Takes every movement and account away and makes it day, so that the next scenario begins with an
-- empty bank.
truncate ni.position, ni.state, ni.applied, ni.hold, ni.posting, ni.unbooked, ni.request,
         ni.outbox, ni.packet, ni.unload, ni.problem, ni.day_switch, ni.below_limit,
         core.entry, core.packet, core.block, core.account, core.end_of_day;
update ni.mode set mode = 'day', epoch = epoch + 1 where mode = 'night';
