-- Which record this is: databases that follow it remember it, and follow no other.
insert into meta values ('id', random() & 9223372036854775807);
