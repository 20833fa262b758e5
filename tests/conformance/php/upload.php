<?php
header('Content-Type: application/json');
$found = [];
foreach ($_FILES as $name => $file) {
    $found[$name] = [$file['name'], $file['error'], $file['size'], md5_file($file['tmp_name'])];
}
echo json_encode(['files' => $found, 'post' => $_POST]);
