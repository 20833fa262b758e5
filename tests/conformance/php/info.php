<?php
header('Content-Type: application/json');
echo json_encode(['server' => $_SERVER, 'get' => $_GET, 'post' => $_POST, 'cookie' => $_COOKIE,
    'body' => md5(file_get_contents('php://input')), 'length' => strlen(file_get_contents('php://input'))]);
