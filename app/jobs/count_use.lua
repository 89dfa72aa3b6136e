-- Count uses against a limit per window, all of them or none, by one round trip. The uses of the window before count
-- for the share of it that lies within the last window's length (a sliding window counter).
--
-- KEYS[1]: what is counted. KEYS[2], where there is one: the call whose uses they are; repeated within two windows'
-- lengths, it is not counted again. ARGV: the limit, the window's length in seconds, and how many uses there are.
-- Returns 1 if they were counted or 0 if they were too many; the uses left; and after how many seconds one more will be
-- left, or refused ones will be counted. Several uses may have to wait until the next window, too, has moved on: for
-- at most two lengths.
local limit, length, count = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
if KEYS[2] and redis.call('EXISTS', KEYS[2]) == 1 then
    count = 0
end
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000

-- The first use begins a window, and the windows follow each other for as long as there are uses.
local stored = redis.call('HMGET', KEYS[1], 'start', 'current', 'previous')
local start, current, previous = now, 0, 0
if stored[1] then
    local ended = math.floor((now - tonumber(stored[1])) / length)
    if ended <= 0 then
        start, current, previous = tonumber(stored[1]), tonumber(stored[2]), tonumber(stored[3])
    elseif ended == 1 then
        start, previous = tonumber(stored[1]) + length, tonumber(stored[2])
    end
end
local rest = math.min(length, start + length - now)

local function uses()
    return math.floor(previous * rest / length + current)
end

-- The seconds until at most so many uses count.
local function seconds_until(target)
    if current <= target and previous > 0 then
        return rest - length * (target + 1 - current) / previous
    end
    local share = current > 0 and (target + 1) / current or 1
    return rest + length * (1 - share)
end

-- What was counted already is allowed, though the limit may be reached.
local allowed = count == 0 or uses() + count <= limit
if allowed then
    current = current + count
    redis.call('HSET', KEYS[1], 'start', string.format('%.6f', start), 'current', current, 'previous', previous)
    redis.call('EXPIRE', KEYS[1], 2 * length)
    if KEYS[2] and count > 0 then
        redis.call('SET', KEYS[2], '1', 'EX', 2 * length)
    end
end
local target = allowed and uses() - 1 or limit - count
local seconds = math.max(1, math.min(2 * length, math.ceil(seconds_until(target))))
return {allowed and 1 or 0, math.max(0, limit - uses()), seconds}
