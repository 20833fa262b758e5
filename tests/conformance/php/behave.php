<?php
switch ($_GET['do']) {
    case 'redirect': header('Location: /elsewhere?a=1'); break;
    case 'missing': http_response_code(404); echo 'no such thing'; break;
    case 'log': error_log("first\nsecond"); echo 'logged'; break;
    case 'large': for ($i = 0; $i < 400; $i++) { echo str_repeat(chr(65 + $i % 26), 8192); } break;
    case 'stream': while (ob_get_level()) { ob_end_clean(); }
        echo "one\n"; flush(); while (!file_exists($_GET['until'])) { usleep(2000); clearstatcache(); } echo "two\n"; break;
    case 'hang': file_put_contents($_GET['note'], 'begun'); usleep(20000000); break;
    case 'accel': header('X-Accel-Redirect: /protected/a%20b.txt'); header('Content-Type: text/x-secret');
        header('Content-Disposition: attachment'); break;
    case 'fields': header('X-One: 1'); header('X-Two: 2', false); header('X-Two: 3', false);
        setcookie('a', 'b'); setcookie('c', 'd'); break;
}
